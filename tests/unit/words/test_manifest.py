"""Manifests: strict loading, and views that say what the bytes say."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distworker import limits, mediatypes
from distworker.digest import Digest
from distworker.errors import (
    DigestMismatch,
    DistworkerError,
    LimitExceeded,
    ManifestInvalid,
    ManifestTooLarge,
    Schema1Unsupported,
    UnsupportedDigest,
)
from distworker.manifest import parse_manifest
from distworker.platforms import Platform

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def descriptor(name: str = "a", size: Any = 10, media_type: Any = LAYER, **more: Any) -> dict[str, Any]:
    """A descriptor of the bytes `name`."""
    return {"mediaType": media_type, "digest": str(Digest.of(name.encode())), "size": size, **more}


def image(**more: Any) -> dict[str, Any]:
    """A small OCI image manifest with fields replaced or added."""
    return {
        "schemaVersion": 2,
        "mediaType": mediatypes.OCI_MANIFEST,
        "config": descriptor("config", 7, mediatypes.OCI_CONFIG),
        "layers": [descriptor("one"), descriptor("two", 20)],
        **more,
    }


def index(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An OCI index of these entries."""
    return {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": list(entries), **more}


def raw(document: Any) -> bytes:
    """The bytes of a document."""
    return json.dumps(document).encode()


def without(document: dict[str, Any], key: str) -> dict[str, Any]:
    """The document without one key."""
    return {name: value for name, value in document.items() if name != key}


# --- what is read -------------------------------------------------------------------------------------------
def test_an_image_gives_config_layers_and_blobs() -> None:
    """The view of an ordinary image, its bytes untouched."""
    data = raw(image(annotations={"a": "b"}))
    manifest = parse_manifest(data, mediatypes.OCI_MANIFEST)
    assert manifest.raw is data
    assert manifest.size == len(data)
    assert manifest.digest == Digest.of(data)
    assert manifest.config is not None
    assert manifest.config.size == 7
    assert [layer.size for layer in manifest.layers] == [10, 20]
    assert [blob.size for blob in manifest.blobs] == [7, 10, 20]
    assert manifest.annotations == {"a": "b"}
    assert not manifest.is_index


def test_a_layer_that_stands_there_twice_is_one_blob_and_two_layers() -> None:
    """Duplicates mean something in the list and nothing in the transfer."""
    manifest = parse_manifest(raw(image(layers=[descriptor("x"), descriptor("y"), descriptor("x")])))
    assert len(manifest.layers) == 3
    assert [blob.digest for blob in manifest.blobs] == [
        Digest.of(b"config"),
        Digest.of(b"x"),
        Digest.of(b"y"),
    ]


def test_an_index_gives_its_children_with_their_platforms() -> None:
    """Attestations are children like any other; unknown entry types are kept."""
    manifest = parse_manifest(
        raw(
            index(
                descriptor("amd", platform={"os": "linux", "architecture": "amd64"}),
                descriptor("arm", platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
                descriptor("att", platform={"os": "unknown", "architecture": "unknown"}),
                descriptor("any", media_type="application/vnd.example.thing"),
            )
        )
    )
    assert manifest.is_index
    assert [child.platform for child in manifest.children] == [
        Platform("linux", "amd64"),
        Platform("linux", "arm64", "v8"),
        Platform("unknown", "unknown"),
        None,
    ]
    assert manifest.blobs == ()


def test_an_empty_index_is_fine() -> None:
    """image-spec: manifests may be empty."""
    assert parse_manifest(raw(index())).children == ()


def test_an_artifact_names_its_subject_and_type() -> None:
    """OCI 1.1 artifacts: an empty config, perhaps no layers, and what they belong to."""
    manifest = parse_manifest(
        raw(
            image(
                artifactType="application/vnd.example.sbom",
                config=descriptor("{}", 2, mediatypes.EMPTY_JSON),
                layers=None,
                subject=descriptor("subject", 500, mediatypes.OCI_MANIFEST),
            )
        )
    )
    assert manifest.artifact_type == "application/vnd.example.sbom"
    assert manifest.subject is not None
    assert manifest.subject.digest == Digest.of(b"subject")
    assert manifest.layers == ()
    assert len(manifest.blobs) == 1


def test_the_withdrawn_artifact_manifest_lists_its_blobs() -> None:
    """No schemaVersion, no config, `blobs` instead of layers."""
    document = {"mediaType": mediatypes.OCI_ARTIFACT, "blobs": [descriptor("one")]}
    manifest = parse_manifest(raw(document), mediatypes.OCI_ARTIFACT)
    assert manifest.config is None
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"one")]


def test_foreign_layers_are_known_by_type_or_urls() -> None:
    """Their registry may lack them; their urls are kept and never followed."""
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    manifest = parse_manifest(
        raw(
            image(
                layers=[
                    descriptor("a", media_type=foreign, urls=["https://cdn.example/a"]),
                    descriptor("b", urls=["https://cdn.example/b"]),
                    descriptor("c"),
                ]
            )
        )
    )
    assert [layer.is_foreign for layer in manifest.layers] == [True, True, False]
    assert manifest.layers[0].urls == ("https://cdn.example/a",)


def test_a_config_without_a_media_type_is_copied_anyway() -> None:
    """Old clients pushed such configs; so do not refuse them."""
    config = without(descriptor("config"), "mediaType")
    manifest = parse_manifest(raw(image(config=config)))
    assert manifest.config is not None
    assert manifest.config.media_type == ""


def test_unknown_fields_and_inline_data_are_ignored() -> None:
    """They survive because the bytes do."""
    data = raw(image(layers=[descriptor("a", data="aGk=", future={"x": [1]})], future=1.5))
    assert parse_manifest(data).raw == data


def test_a_descriptor_can_be_a_key() -> None:
    """Plans put manifests and descriptors into sets."""
    manifest = parse_manifest(raw(image()))
    assert len({*manifest.layers, *manifest.layers}) == 2
    assert hash(manifest)


# --- the digest ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_bytes_that_match_the_asked_digest_are_known_by_it(algorithm: str) -> None:
    """The asked algorithm is never exchanged for another."""
    data = raw(image())
    digest = Digest.of(data, algorithm)
    assert parse_manifest(data, digest=digest).digest == digest


def test_other_bytes_than_the_asked_ones_are_a_digest_mismatch() -> None:
    """The bytes are checked before anything is believed of them."""
    with pytest.raises(DigestMismatch):
        parse_manifest(b"not even JSON", digest=Digest.of(raw(image())))


# --- the type -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "header",
    ["", "text/plain; charset=utf-8", "application/json", "application/octet-stream", "binary/octet-stream"],
)
def test_a_header_that_knows_nothing_leaves_the_type_to_the_body(header: str) -> None:
    """CDNs serve manifests as plain text."""
    assert parse_manifest(raw(image()), header).media_type == mediatypes.OCI_MANIFEST


def test_without_a_body_type_the_header_decides() -> None:
    """OCI 1.0.1 manifests had no mediaType."""
    document = without(image(), "mediaType")
    header = f"{mediatypes.DOCKER_MANIFEST}; charset=utf-8"
    assert parse_manifest(raw(document), header).media_type == mediatypes.DOCKER_MANIFEST


def test_without_any_type_the_shape_decides() -> None:
    """`manifests` is an index, a Docker config makes a Docker manifest, else it is OCI."""
    assert parse_manifest(raw(without(index(), "mediaType"))).media_type == mediatypes.OCI_INDEX
    assert parse_manifest(raw(without(image(), "mediaType"))).media_type == mediatypes.OCI_MANIFEST
    docker = without(image(config=descriptor("c", media_type=mediatypes.DOCKER_CONFIG)), "mediaType")
    assert parse_manifest(raw(docker)).media_type == mediatypes.DOCKER_MANIFEST


def test_an_unknown_manifest_type_is_read_by_its_shape() -> None:
    """The spec forbids refusing unknown types."""
    listed = parse_manifest(raw(index(descriptor(), mediaType="application/vnd.example.list")))
    assert listed.is_index
    assert listed.media_type == "application/vnd.example.list"
    assert not parse_manifest(raw(image(mediaType="application/vnd.example.image"))).is_index


@pytest.mark.parametrize(
    ("document", "header"),
    [
        (image(), mediatypes.DOCKER_MANIFEST),
        (index(), mediatypes.OCI_MANIFEST),
        (image(mediaType=mediatypes.OCI_INDEX), ""),
        (without(image(), "mediaType"), mediatypes.DOCKER_LIST),
        (without(index(), "mediaType"), mediatypes.OCI_MANIFEST),
        (index(mediaType=mediatypes.DOCKER_MANIFEST), mediatypes.DOCKER_MANIFEST),
        (index(mediaType=mediatypes.OCI_ARTIFACT), ""),
    ],
)
def test_types_that_contradict_each_other_or_the_shape_are_refused(document: Any, header: str) -> None:
    """CVE-2021-41190: one document, two readings."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw(document), header)


UNSIGNED = {
    "schemaVersion": 1,
    "name": "library/old",
    "tag": "1",
    "fsLayers": [{"blobSum": str(Digest.of(b"x"))}],
}
PAYLOAD = json.dumps(UNSIGNED, indent=3).encode()


def packed(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def signature(length: Any, tail: Any = None) -> dict[str, Any]:
    """A signature over the first `length` bytes of the body, then `tail`."""
    protected = {"formatLength": length, "formatTail": packed(PAYLOAD[-2:]) if tail is None else tail}
    return {"header": {"alg": "ES256"}, "signature": "x", "protected": packed(raw(protected))}


def signed(*signatures: Any) -> bytes:
    """The payload with signatures put in, as libtrust does it."""
    return PAYLOAD[:-2] + b',\n   "signatures": ' + raw(list(signatures)) + b"\n}"


SIGNED = signed(signature(len(PAYLOAD) - 2))


@pytest.mark.parametrize(
    ("data", "header", "digest"),
    [
        (SIGNED, mediatypes.DOCKER_SCHEMA1_SIGNED, None),
        (SIGNED, "application/json", None),
        (SIGNED, "text/plain", Digest.of(PAYLOAD)),
        (SIGNED, mediatypes.DOCKER_SCHEMA1_SIGNED, Digest.of(PAYLOAD, "sha512")),
        (signed(*[signature(len(PAYLOAD) - 2)] * 2), "", Digest.of(PAYLOAD)),
        (PAYLOAD, mediatypes.DOCKER_SCHEMA1, Digest.of(PAYLOAD)),
        (raw({"schemaVersion": 1}), "", None),
        (raw(without(UNSIGNED, "schemaVersion")), "", None),
        (raw(image(mediaType=mediatypes.DOCKER_SCHEMA1)), "", None),
        (raw(image()), mediatypes.DOCKER_SCHEMA1, None),
    ],
)
def test_schema_1_is_refused_by_its_name(data: bytes, header: str, digest: Digest | None) -> None:
    """A signed one goes by the digest of its payload, which is computed; by whatever sign it is known."""
    with pytest.raises(Schema1Unsupported):
        parse_manifest(data, header, digest)


@pytest.mark.parametrize(
    "data",
    [
        SIGNED.replace(b"library/old", b"library/new"),
        signed(signature(len(PAYLOAD) - 3)),
        signed(signature(len(PAYLOAD) - 2), signature(len(PAYLOAD) - 3)),
        signed(signature(10_000)),
        signed(signature(-1)),
        signed(signature(True)),
        signed(signature("5")),
        signed(signature(len(PAYLOAD) - 2, tail="*")),
        signed(signature(len(PAYLOAD) - 2, tail=7)),
        signed({"protected": packed(b"[]")}),
        signed({"protected": 5}),
        signed("text"),
        PAYLOAD[:-2] + b',"signatures": "x"}',
        PAYLOAD + b" ",
        b'{"fsLayers": ',
        raw(image(x=SIGNED.decode(), signatures=[signature(0, packed(PAYLOAD))])),
    ],
)
def test_a_schema_1_payload_that_is_not_the_asked_one_is_a_mismatch(data: bytes) -> None:
    """Whatever the signatures claim; they are foreign text like the rest."""
    with pytest.raises(DigestMismatch):
        parse_manifest(data, "text/plain", Digest.of(PAYLOAD))


def test_a_payload_never_vouches_for_what_stands_around_it() -> None:
    """A signature may claim to be over any bytes it carries along: such a manifest is refused, never read as
    the one whose digest was asked for."""
    wanted = raw(image())
    forged = raw(UNSIGNED | {"signatures": [signature(0, packed(wanted))]})
    with pytest.raises(Schema1Unsupported):
        parse_manifest(forged, mediatypes.OCI_MANIFEST, Digest.of(wanted), mediatypes.OCI_MANIFEST)


# --- the type the descriptor states -------------------------------------------------------------------------
def proven(document: Any, header: str, expected: str) -> str:
    """The type that comes out when the bytes are those of the descriptor's digest."""
    data = raw(document)
    return parse_manifest(data, header, Digest.of(data), expected).media_type


@pytest.mark.parametrize(
    ("document", "header", "expected", "found"),
    [
        (image(), mediatypes.DOCKER_MANIFEST, mediatypes.OCI_MANIFEST, mediatypes.OCI_MANIFEST),
        (image(), mediatypes.DOCKER_SCHEMA1, mediatypes.OCI_MANIFEST, mediatypes.OCI_MANIFEST),
        (image(), mediatypes.OCI_MANIFEST, mediatypes.DOCKER_MANIFEST, mediatypes.OCI_MANIFEST),
        (
            without(image(), "mediaType"),
            mediatypes.OCI_MANIFEST,
            mediatypes.DOCKER_MANIFEST,
            mediatypes.DOCKER_MANIFEST,
        ),
        (without(image(), "mediaType"), "text/plain", mediatypes.DOCKER_MANIFEST, mediatypes.DOCKER_MANIFEST),
        (without(image(), "mediaType"), mediatypes.OCI_MANIFEST, "application/x", mediatypes.OCI_MANIFEST),
        (without(image(), "mediaType"), "", "application/x", mediatypes.OCI_MANIFEST),
        ({"any": "thing"}, "", "application/x", "application/x"),
    ],
)
def test_the_descriptor_settles_what_header_and_body_dispute(
    document: Any, header: str, expected: str, found: str
) -> None:
    """Its digest proves that these are the bytes it speaks of (image-spec); body and header agreeing is
    fine too, and a type nobody knows settles nothing."""
    assert proven(document, header, expected) == found


@pytest.mark.parametrize(
    ("document", "header", "expected"),
    [
        (image(), mediatypes.DOCKER_MANIFEST, ""),
        (image(), mediatypes.DOCKER_MANIFEST, mediatypes.DOCKER_MANIFEST),
        (image(), mediatypes.OCI_INDEX, mediatypes.OCI_INDEX),
        (without(image(), "mediaType"), "", mediatypes.OCI_INDEX),
        (without(index(), "mediaType"), mediatypes.OCI_INDEX, mediatypes.OCI_MANIFEST),
    ],
)
def test_a_descriptor_cannot_make_one_thing_of_another(document: Any, header: str, expected: str) -> None:
    """CVE-2021-41190: what the body says of itself, and its shape, must agree."""
    with pytest.raises(ManifestInvalid):
        proven(document, header, expected)


def test_without_a_digest_the_expected_type_counts_for_nothing() -> None:
    """Nothing shows that these are the bytes the descriptor speaks of."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw(image()), mediatypes.DOCKER_MANIFEST, None, mediatypes.OCI_MANIFEST)


def test_a_manifest_of_an_unknown_type_may_name_anything_or_nothing() -> None:
    """What it names is copied; one that names nothing is taken only when a digest shows that it is meant."""
    strange = {
        "mediaType": "application/vnd.example.thing",
        "blobs": [descriptor("b")],
        "layers": [descriptor()],
    }
    manifest = parse_manifest(raw(strange))
    assert [blob.digest for blob in manifest.blobs] == [Digest.of(b"a"), Digest.of(b"b")]
    assert proven({"any": "thing"}, "application/vnd.example.thing", "") == "application/vnd.example.thing"
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw({"errors": []}), "application/problem+json")


# --- what is refused ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{}",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        raw(image()) + b"x",
        b'{"schemaVersion": 2, "schemaVersion": 2}',
        raw(image())[:-1] + b', "layers": []}',
        b'{"schemaVersion": 2, "config": {"digest": "a", "digest": "b"}}',
        b'{"schemaVersion": NaN}',
        b'{"schemaVersion": 2, "x": Infinity}',
        b'{"schemaVersion": 2, "x": -Infinity}',
        b'{"schemaVersion": 2, "x": ' + b"9" * 5000 + b"}",
        b'"' + b'\\"' * 50_000,
    ],
)
def test_what_is_not_one_clear_json_object_is_refused(data: bytes) -> None:
    """Duplicate keys, constants outside JSON, trailing bytes, wrong encodings."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(data)


@pytest.mark.parametrize(
    "document",
    [
        image(manifests=[]),
        index(layers=[]),
        index(config=None),
        index(blobs=[]),
        image(Layers=[]),
        image(**{"Manifests": []}),
        image(**{"fslayers": []}),
        image(**{"MEDIATYPE": mediatypes.OCI_INDEX}),
        image(**{"layer\u017f": []}),
        image(layers=[descriptor(Digest="x")]),
        image(layers=[descriptor(**{"SIZE": 1})]),
        index(descriptor(platform={"OS": "linux", "os": "linux"})),
    ],
)
def test_a_document_that_readers_could_read_in_two_ways_is_refused(document: Any) -> None:
    """A list that is an image, and keys in another letter case, as Go's decoder would take them."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw(document))


@pytest.mark.parametrize("size", [True, False, 1.0, -1, "10", None, [10]])
def test_a_size_must_be_a_whole_number(size: Any) -> None:
    """bool is an int in Python and not in JSON."""
    with pytest.raises(ManifestInvalid, match="size"):
        parse_manifest(raw(image(layers=[descriptor(size=size)])))


@pytest.mark.parametrize(
    "document",
    [
        image(schemaVersion=3),
        image(schemaVersion="2"),
        image(schemaVersion=2.5),
        image(schemaVersion=False),
        image(mediaType=5),
        image(mediaType="x" * 256),
        image(mediaType="application/x\n"),
        image(layers={}),
        image(layers="x"),
        image(layers=["x"]),
        image(layers=[None]),
        image(config=[]),
        image(config=None),
        without(image(), "config"),
        image(subject="x"),
        image(artifactType={}),
        image(annotations=[]),
        image(annotations={"a": 1}),
        image(layers=[descriptor(annotations={"a": None})]),
        image(layers=[descriptor(media_type=5)]),
        image(layers=[descriptor(media_type="a" * 256)]),
        image(layers=[descriptor(media_type="täg")]),
        image(layers=[descriptor(urls="https://x")]),
        image(layers=[descriptor(urls=[1])]),
        image(layers=[without(descriptor(), "digest")]),
        image(layers=[descriptor() | {"digest": "sha256:short"}]),
        image(layers=[descriptor() | {"digest": "sha256:" + "../" * 21 + "x"}]),
        image(layers=[descriptor() | {"digest": 5}]),
        index(descriptor(platform="linux/amd64")),
        index(descriptor(platform={"os": 5})),
        {"schemaVersion": 2, "layers": []},
        {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "blobs": [descriptor()]},
        {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX},
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(document: Any) -> None:
    """Typed, and in words; never a KeyError or TypeError."""
    with pytest.raises(ManifestInvalid):
        parse_manifest(raw(document))


def test_an_unknown_digest_algorithm_is_unsupported_rather_than_malformed() -> None:
    """The person hears that the image is fine and we are not able."""
    with pytest.raises(UnsupportedDigest):
        parse_manifest(raw(image(layers=[descriptor() | {"digest": "blake3:" + "a" * 64}])))


def test_one_digest_with_two_sizes_is_refused() -> None:
    """One of the two would cut the blob or wait for ever."""
    with pytest.raises(ManifestInvalid, match="two different sizes"):
        parse_manifest(raw(image(layers=[descriptor("x", 1), descriptor("x", 2)])))
    with pytest.raises(ManifestInvalid, match="two different sizes"):
        parse_manifest(raw(index(descriptor("x", 1), descriptor("x", 2))))


# --- limits -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("bracket", [b"[", b'{"a":', b'[{"a":"]",'])
def test_deep_nesting_ends_at_our_limit_and_not_at_pythons(bracket: bytes) -> None:
    """200,000 levels must not end in a RecursionError, closed or not."""
    with pytest.raises(ManifestInvalid, match="deeper"):
        parse_manifest(bracket * 200_000)


def test_brackets_inside_strings_are_not_nesting() -> None:
    """Annotations may hold any text."""
    text = '[{"\\' * 1000
    assert parse_manifest(raw(image(annotations={"a": text}))).annotations == {"a": text}


def test_a_manifest_above_the_limit_is_refused_before_it_is_parsed() -> None:
    """The size is known, so nothing else is looked at."""
    with pytest.raises(ManifestTooLarge):
        parse_manifest(b" " * (limits.MANIFEST_MAX_PULL + 1))


def test_more_layers_entries_or_bytes_than_the_limits_are_refused() -> None:
    """One manifest cannot stand for unbounded work."""
    with pytest.raises(LimitExceeded, match="layers"):
        parse_manifest(raw(image(layers=[descriptor()] * (limits.LAYERS_MAX + 1))))
    with pytest.raises(LimitExceeded, match="manifests"):
        parse_manifest(raw(index(*[descriptor()] * (limits.INDEX_ENTRIES_MAX + 1))))
    with pytest.raises(LimitExceeded, match="size"):
        parse_manifest(raw(image(layers=[descriptor(size=limits.BLOB_MAX + 1)])))
    most = parse_manifest(raw(image(layers=[descriptor()] * limits.LAYERS_MAX)))
    assert len(most.layers) == limits.LAYERS_MAX


def test_half_a_surrogate_pair_does_not_reach_our_records() -> None:
    """JSON can spell text that UTF-8 cannot; what we keep can always be written out."""
    manifest = parse_manifest(raw(image(annotations={"a\ud800": "b\udfff"})))
    assert manifest.annotations == {"a?": "b?"}


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                [
                    *("schemaVersion", "mediaType", "config", "layers", "manifests", "blobs", "fsLayers"),
                    *(
                        "subject",
                        "annotations",
                        "artifactType",
                        "digest",
                        "size",
                        "urls",
                        "platform",
                        "os",
                        "x",
                    ),
                ]
            ),
            inner,
            max_size=6,
        ),
    ),
    max_leaves=20,
)


@given(json_values)
def test_no_json_raises_anything_but_typed_errors(document: Any) -> None:
    """Whatever the shape, it is a manifest or it is refused in words."""
    try:
        parse_manifest(raw(document))
    except DistworkerError as error:
        assert error.message


@given(
    st.sampled_from(["config", "layers", "mediaType", "subject", "annotations", "schemaVersion"]), json_values
)
def test_no_field_value_raises_anything_but_typed_errors(key: str, value: Any) -> None:
    """A good manifest with one field replaced by anything."""
    try:
        parse_manifest(raw(image(**{key: value})), "text/plain")
    except DistworkerError as error:
        assert error.message


@given(st.binary(), st.text(max_size=20))
def test_no_bytes_raise_anything_but_typed_errors(data: bytes, header: str) -> None:
    """Garbage in, a sentence out."""
    with pytest.raises(DistworkerError):
        parse_manifest(data, header)
