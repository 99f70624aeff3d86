"""What a person sees. Each page is built once and then told what changed."""
