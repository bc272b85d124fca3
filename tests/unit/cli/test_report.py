"""The words and figures of reports, and the exit code that follows from a job."""

import pytest

from distworker.cli import report
from tests.unit.cli.fake_jobs import closed, view

DENIED = {"code": "denied", "message": "not allowed to push"}
FULL = {"code": "store_full", "message": "no room left"}


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_950, "1.0 MB"),
        (3_140_000, "3.1 MB"),
        (10**13, "10.0 TB"),
    ],
)
def test_sizes_are_said_in_powers_of_a_thousand(count: int, text: str) -> None:
    """Whole bytes below a kilobyte, one decimal above."""
    assert report.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (-1, "0.0 s")],
)
def test_durations_are_said_in_at_most_two_units(seconds: float, text: str) -> None:
    """A clock that went back is not a negative time."""
    assert report.duration(seconds) == text


def test_the_final_report_names_images_moved_and_saved_bytes_and_each_failure() -> None:
    """Everything an operator asks afterwards, with what saved how much."""
    over = view(
        "failed",
        counters={
            "total": 4,
            "done": 2,
            "unchanged": 1,
            "failed": 1,
            "downloaded": 3_100_000,
            "uploaded": 3_100_000,
            "layers": 5,
            "saved_present": 900_000_000,
            "saved_shared": 300_000_000,
        },
    )

    assert report.final_lines(over, [closed(4, "failed", error=DENIED)]) == [
        "job     20261123-7f3kq2xm failed in 12.3 s",
        "images  4: 2 done, 1 unchanged, 1 failed",
        "moved   downloaded 3.1 MB, uploaded 3.1 MB (5 layers)",
        "saved   1.2 GB: 900.0 MB already there, 300.0 MB shared",
        "failed  src.example/app:4 → dst.example/app:4: denied: not allowed to push",
    ]


def test_foreign_text_cannot_forge_lines_or_colours() -> None:
    """A registry's message with line breaks and escape codes stays one plain line."""
    line = report.image_line(closed(1, "failed", error={"code": "denied", "message": "a\nfailed x\x1b[2J"}))

    assert "\n" not in line
    assert "\x1b" not in line


@pytest.mark.parametrize(
    ("state", "counters", "failures", "code"),
    [
        ("done", {"total": 2, "done": 1, "unchanged": 1}, [], 0),
        ("done", {"total": 1, "superseded": 1}, [], 0),
        ("failed", {"total": 2, "done": 1, "failed": 1}, [closed(1, "failed", error=DENIED)], 1),
        ("failed", {"total": 1, "failed": 1}, [closed(1, "failed", error=FULL)], 3),
        ("failed", {"total": 2, "done": 1, "failed": 1}, [closed(1, "failed", error=FULL)], 1),
        ("failed", {"failed": 2}, [closed(n, "failed", error=e) for n, e in ((1, FULL), (2, DENIED))], 1),
        ("failed", {"failed": 2}, [closed(1, "failed", error=FULL)], 1),
        ("cancelled", {"total": 2, "done": 1, "cancelled": 1}, [], 1),
        ("failed", {"total": 0}, [], 1),
        ("failed", {"total": 1, "failed": 1}, [closed(1, "failed", error={"code": "from the future"})], 1),
    ],
)
def test_the_exit_code_tells_how_the_job_ended(
    state: str, counters: dict[str, int], failures: list[dict[str, object]], code: int
) -> None:
    """0 all well, 3 when our own servers failed the whole job, 1 for every other failure and for a cancel."""
    assert report.exit_code(view(state, counters=counters), failures) == code


def test_a_job_that_could_not_be_expanded_fails_with_its_own_error() -> None:
    """Listing the tags of an unknown repository fails the job before it has any image."""
    over = view("failed", counters={}, error={"code": "repository_unknown", "message": "no such repository"})

    assert report.exit_code(over, []) == 1
    assert "failed  job 20261123-7f3kq2xm: repository_unknown: no such repository" in report.final_lines(
        over, []
    )


def test_a_heartbeat_names_a_few_running_steps_and_counts_the_rest() -> None:
    """A line that never grows with the number of layers."""
    digest = "sha256:" + "ab" * 32
    running = {f"u:{digest}@r.example": {"moved": 5_000_000, "size": 20_000_000}} | {
        f"p:{n}": {"text": f"plan image {n}"} for n in range(9)
    }

    line = report.heartbeat_line(view(counters={"total": 12, "done": 3}, running=running))

    assert line == (
        "3 of 12 images closed; downloaded 0 B, uploaded 0 B; running: "
        "upload abababababab 5.0 MB of 20.0 MB, plan image 0, plan image 1, plan image 2 and 6 more"
    )


def test_bytes_under_way_count_as_moved_and_no_byte_twice() -> None:
    """A figure that stands still while a large layer moves would look like a hang."""
    running = {
        "d:default/sha256:ab": {"moved": 40},
        "u:sha256:cd@r.example": {"moved": 7},
        "p:x": {"moved": 9},
    }

    assert report.moved_total(view(counters={"downloaded": 100, "uploaded": 90}, running=running)) == 140


def test_the_rate_follows_the_bytes_between_two_different_readings() -> None:
    """Workers report every few seconds; the same figure twice is no information."""
    rates = report.Rates()

    assert rates.seen("u:1", 0, 10.0) == 0.0
    assert rates.seen("u:1", 0, 11.0) == 0.0
    assert rates.seen("u:1", 8_000_000, 14.0) == 2_000_000.0
    assert rates.seen("u:1", 8_000_000, 15.0) == 2_000_000.0
    assert rates.seen("u:1", 12_000_000, 18.0) == 1_500_000.0


def test_a_job_for_machines_has_all_counters_under_their_words() -> None:
    """A reader of --json finds every field in every line, zero or not."""
    record = report.job_record(
        view("done", counters={"total": 1, "done": 1, "saved_stored": 7, "uploaded": 9})
    )

    assert record["images"] == {
        "total": 1,
        "done": 1,
        "unchanged": 0,
        "failed": 0,
        "cancelled": 0,
        "superseded": 0,
    }
    assert record["moved"] == {"downloaded": 0, "uploaded": 9, "layers": 0}
    assert record["saved"] == {"present": 0, "mounted": 0, "stored": 7, "shared": 0}
    assert (record["v"], record["kind"], record["seconds"]) == (1, "copy", 12.3)
