"""What of a Delta table may go, and what must stay so that every kept version opens."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.ingestor.domain.retention import idle_entries, idle_files, oldest_kept

DAY = datetime(2013, 1, 1, tzinfo=UTC)


def commit(version: int) -> str:
    return f"_delta_log/{version:020d}.json"


def checkpoint(version: int) -> str:
    return f"_delta_log/{version:020d}.checkpoint.parquet"


def opens(names: set[str], version: int) -> bool:
    """As the Delta protocol has it: from the newest checkpoint that is not above it, or from the first commit."""
    start = max((at for at in range(version + 1) if checkpoint(at) in names), default=None)
    commits = range(0 if start is None else start + 1, version + 1)
    return all(commit(each) in names for each in commits)


@given(
    newest=st.integers(0, 60),
    checkpoints=st.sets(st.integers(0, 60)),
    pinned=st.sets(st.integers(0, 60), max_size=4),
    rounds=st.lists(st.integers(0, 60), min_size=1, max_size=3),
)
def test_what_is_left_opens_every_pinned_version_and_all_from_the_oldest_kept_on(
    newest: int, checkpoints: set[int], pinned: set[int], rounds: list[int]
) -> None:
    names = {commit(version) for version in range(newest + 1)} | {checkpoint(v) for v in checkpoints if v <= newest}
    pinned = {version for version in pinned if version <= newest}

    for since in sorted(min(each, newest) for each in rounds):
        names -= idle_entries(names, pinned, since)

        assert all(opens(names, version) for version in pinned)
        assert all(opens(names, version) for version in range(since, newest + 1))


def test_entries_below_the_last_checkpoint_go_when_nothing_is_pinned_and_what_is_unknown_stays() -> None:
    odd = {"_delta_log/_last_checkpoint", f"_delta_log/{2:020d}.{9:020d}.compacted.json", "_delta_log/.tmp"}
    names = {commit(version) for version in range(10)} | {checkpoint(3), checkpoint(6)} | odd

    gone = idle_entries(names, pinned := [4], since=7)

    assert gone == {commit(0), commit(1), commit(2), commit(5)}
    assert idle_entries(names, pinned, since=5) == gone - {commit(5)}


def test_the_oldest_kept_is_the_newest_version_of_its_time() -> None:
    stored = {commit(version): DAY + timedelta(days=version) for version in range(5)}

    assert oldest_kept(stored, DAY + timedelta(days=2, hours=1)) == 2
    assert oldest_kept(stored, DAY) is None


def test_a_data_file_goes_when_it_is_old_and_unused() -> None:
    stored = {"used.parquet": DAY, "idle.parquet": DAY, "young.parquet": DAY + timedelta(days=2), commit(0): DAY}

    assert idle_files(stored, {"used.parquet"}, DAY + timedelta(days=1)) == {"idle.parquet"}
