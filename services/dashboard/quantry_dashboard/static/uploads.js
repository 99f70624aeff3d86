// The form that sends a dataset: the file is the request's body, so that nothing of it is held in memory on the way.
(() => {
  globalThis.quantryUpload = (event) => {
    event.preventDefault();
    const form = event.currentTarget ?? event.target.closest("form");
    const file = form.elements.file.files[0];
    const said = form.querySelector(".upload-said");
    const bar = form.querySelector("progress");
    const button = form.querySelector("button[type=submit]");
    const say = (text) => { said.textContent = text; said.hidden = !text; };
    if (!file) { say("Choose a file first."); return; }
    const query = new URLSearchParams({ name: form.elements.name.value, kind: form.elements.kind.value, file: file.name });
    const request = new XMLHttpRequest();
    request.open("PUT", `/datasets/upload?${query}`);
    request.upload.onprogress = (progress) => {
      bar.hidden = false;
      bar.max = progress.total || 1;
      bar.value = progress.loaded;
    };
    const end = (text) => { button.disabled = false; bar.hidden = true; say(text); };
    request.onerror = () => end("The upload broke off. Try again.");
    request.onload = () => {
      let answer = {};
      try { answer = JSON.parse(request.responseText); } catch { /* what is said below will do */ }
      if (request.status === 201) location.assign(answer.address);
      else end(answer.problem ?? `The upload was refused (${request.status}).`);
    };
    say("");
    button.disabled = true;
    request.send(file);
  };

  // A name by default: the file's own, as far as a name may be so.
  globalThis.quantryNameUpload = (event) => {
    const form = event.target.closest("form");
    const file = event.target.files[0];
    if (!file || form.elements.name.value) return;
    form.elements.name.value = file.name.replace(/\.[^.]*$/, "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-").replace(/^[^a-z0-9]+/, "");
  };
})();
