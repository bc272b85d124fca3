"""Each of the sixty cases that a registry client must survive is a test bearing its name; none is skipped.

The names are the catalogue: who takes a case away, or renames it, has to say so here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

CASES = Path(__file__).parents[1] / "unit" / "registry" / "cases"
STORY = ("Given", "When", "Then")
#: By the first letter: authentication, manifests, downloads, uploads, publishing, listing, faults.
CATALOGUE = re.findall(
    r"\S+",
    """
a01_ping_open_and_not_a_registry a02_anonymous_bearer a03_bearer_with_credentials a04_multiple_challenges
a05_challenge_syntax_corners a06_token_response_variants a07_identity_token_post_fallback
a08_scope_upgrade_and_partial_grant a09_token_expiry_mid_job a10_shared_token_single_flight
a11_bad_credentials_no_hammer a12_hostile_realm
m01_accept_list m02_byte_exact_roundtrip m03_pinned_digest_mismatch m04_tag_moves
m05_digest_header_wrong_or_missing m06_ambiguous_or_malformed m07_manifest_too_large m08_nested_index_limits
m09_attestations_and_artifacts m10_schema1
b01_redirect_strips_credentials b02_presigned_expired b03_truncated_200 b04_reset_and_resume
b05_resume_not_honoured b06_corrupt_same_length b07_size_lies b08_content_encoding b09_stall_and_drip
b10_redirect_inward b11_foreign_layer
u01_exists_skip u02_monolithic_relative_location u03_location_other_host u04_chunked_moving_location
u05_416_then_status u06_range_zero_ambiguity u07_session_lost u08_commit_timeout_but_stored
u09_token_expired_at_commit u10_mount_created u11_mount_accepted_202 u12_mount_source_denied
u13_digest_invalid u14_quirky_patch_status u15_empty_and_tiny_blob
p01_order_and_tag_last p02_blob_unknown_after_upload p03_subject_without_oci_subject p04_type_refused
l01_tags_pagination l02_link_hostile l03_referrers_fallback
f01_throttle_variants f02_transient_matrix f03_error_classification f04_secrets_nowhere
f05_crash_and_redelivery
""",
)


def named_tests(letter: str) -> dict[str, tuple[ast.FunctionDef, str]]:
    """The test functions in the files of a letter, with their source."""
    found = {}
    for path in sorted(CASES.glob(f"test_{letter}_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found[node.name] = (node, ast.get_source_segment(text, node) or "")
    return found


def test_the_catalogue_has_sixty_cases() -> None:
    """Twelve, ten, eleven, fifteen, four, three and five, numbered without a gap."""
    counts = {"a": 12, "m": 10, "b": 11, "u": 15, "p": 4, "l": 3, "f": 5}
    wanted = {f"{letter}{n:02}" for letter, count in counts.items() for n in range(1, count + 1)}
    assert {name[:3] for name in CATALOGUE} == wanted
    assert len(CATALOGUE) == 60


def tells(source: str) -> bool:
    """Do its comments say what is given, what is done and what must come of it?"""
    return all(re.search(rf"# .*\b{word}\b", source) for word in STORY)


@pytest.mark.parametrize("case", CATALOGUE)
def test_a_case_is_a_test_that_bears_its_name(case: str) -> None:
    """One at least; all are documented and run, and one tells the story: given, when, then."""
    mine = {name: it for name, it in named_tests(case[0]).items() if name.startswith(f"test_{case}")}
    assert mine, f"no test_{case} in {CASES.name}/test_{case[0]}_*.py"
    assert [name for name, (node, _) in mine.items() if not ast.get_docstring(node)] == []
    marks = [ast.unparse(mark) for node, _ in mine.values() for mark in node.decorator_list]
    assert [mark for mark in marks if re.search(r"mark\.(sk" r"ip|xf" r"ail)", mark)] == []
    told = [name for name, (_, text) in mine.items() if tells(text)]
    assert told, f"none of {sorted(mine)} has the comments {STORY}"
