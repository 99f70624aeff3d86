"""What a schedule may start, and how often: looked at before anybody relies on it."""

from __future__ import annotations

import pytest

from factories.releases import say_hello
from factories.schedules import job_template, pipeline_template, prepared, taking, wind_up
from factories.store import Platform, quantize_spec
from quantry_core.errors import BadCron, UnknownDataset, UnknownModel
from quantry_core.schedules import OverlapPolicy, ScheduleSubmission
from quantry_store.transactions import create_schedule


@pytest.mark.parametrize(
    ("cron", "overlap", "minutes", "is_taken"),
    [
        ("* * * * * *", OverlapPolicy.QUEUE, None, True),
        ("* * * * * *", OverlapPolicy.SKIP, 1.0, True),
        ("* * * * * *", OverlapPolicy.SKIP, 60.0, False),
        ("* * * * *", OverlapPolicy.SKIP, 60.0, True),
        ("* * * * *", OverlapPolicy.QUEUE, 60.0, False),
        ("* * * * *", OverlapPolicy.CANCEL_PREVIOUS, 60.0, False),
        ("0 * * * *", OverlapPolicy.QUEUE, 60.0, True),
        ("0 * * * *", OverlapPolicy.QUEUE, 61.0, False),
    ],
)
async def test_how_often_a_job_may_run(
    platform: Platform, cron: str, overlap: OverlapPolicy, minutes: float | None, is_taken: bool
) -> None:
    template = job_template()
    submission = ScheduleSubmission(name="often", cron=cron, template=template, overlap=overlap)
    async with platform.database.begin() as uow:
        if is_taken:
            await create_schedule(uow, platform.admin, submission, prepared(template, taking(minutes)))
        else:
            with pytest.raises(BadCron, match="at its closest, but one run takes about"):
                await create_schedule(uow, platform.admin, submission, prepared(template, taking(minutes)))


async def test_every_second_for_an_hour_long_job_names_both_figures(platform: Platform) -> None:
    template = job_template()
    submission = ScheduleSubmission(name="often", cron="* * * * * *", template=template)
    with pytest.raises(BadCron) as refused:
        async with platform.database.begin() as uow:
            await create_schedule(uow, platform.admin, submission, prepared(template, taking(60.0)))
    assert refused.value.detail == (
        "'* * * * * *' fires every 1 s at its closest, but one run takes about 60 minutes; "
        "with overlap skip at least 36 s must lie between two runs"
    )


async def test_of_a_pipeline_the_longest_chain_counts(platform: Platform) -> None:
    template = pipeline_template()
    submission = ScheduleSubmission(name="two", cron="0 * * * *", template=template, overlap=OverlapPolicy.QUEUE)
    with pytest.raises(BadCron, match="one run takes about 80 minutes"):
        async with platform.database.begin() as uow:
            await create_schedule(uow, platform.admin, submission, prepared(template, taking(40.0), taking(40.0)))


async def test_what_cannot_be_submitted_is_no_template(platform: Platform) -> None:
    master = await platform.master()
    for spec, error in (
        (quantize_spec("nobody@1", "tales"), UnknownModel),
        (quantize_spec(master.ref, "nothing"), UnknownDataset),
    ):
        with pytest.raises(error):
            await wind_up(platform, job_template(spec=spec))
    clockwork = await wind_up(platform)
    with pytest.raises(UnknownModel):
        await clockwork.change(template=job_template(spec=quantize_spec("nobody@1", "tales")))
    assert await clockwork.num_jobs() == 0, "what was tried was taken back"
    assert (await platform.actions()).count("job.submit") == 1


async def test_what_was_only_tried_is_not_counted(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await platform.quantized(master, tales)
    await say_hello(platform)
    template = job_template(spec=quantize_spec(master.ref, tales.ref))
    async with platform.database.begin() as uow:
        await create_schedule(
            uow, platform.admin, ScheduleSubmission(name="again", cron="0 * * * *", template=template), prepared(template)
        )
        assert uow.jobs.ended == [], "its job would have ended at once, by the version that is there"
