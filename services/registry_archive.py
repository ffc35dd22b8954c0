"""The released schemas as an archive that Apicurio Registry imports, ids included.

Promises: a registry filled from it answers every released id with the released text. The Confluent API of
Apicurio takes no ids from outside (its import mode is accepted and has no effect), so this is the way that
works: the format of its own export (version 3.0). Leaves sending it to `services.registry`.
"""

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from schemas.ids import Released

MANIFEST = {"systemVersion": "3.3.3", "exportVersion": "3.0", "dbVersion": "109"}
UNDATED = {"owner": "", "createdOn": 0, "modifiedBy": "", "modifiedOn": 0}


def archive(releases: Iterable[Released]) -> bytes:
    """A zip file with every version of every subject."""
    target = io.BytesIO()
    ordered = sorted(releases, key=lambda release: (release.subject, release.version))
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as entries:
        entries.writestr("manifest-leadlog.Manifest.json", json.dumps(MANIFEST))
        for release in ordered:
            _add_content(entries, release)
        for subject, versions in groupby(ordered, key=lambda release: release.subject):
            _add_subject(entries, subject, list(versions))
    return target.getvalue()


def _add_content(entries: zipfile.ZipFile, release: Released) -> None:
    content_hash = _sha256(release.text)
    about = {
        "contentId": release.schema_id,
        "contentHash": content_hash,
        "canonicalHash": _sha256(canonical(release.text)),
        "artifactType": None,
        "contentType": "application/json",
        "serializedReferences": None,
    }
    entries.writestr(f"content/{content_hash}.Content.json", json.dumps(about))
    entries.writestr(f"content/{content_hash}.Content.data", release.text)


def _add_subject(entries: zipfile.ZipFile, subject: str, versions: list[Released]) -> None:
    folder = f"groups/default/artifacts/{subject}"
    named = {"groupId": None, "artifactId": subject, **UNDATED}
    entries.writestr(f"{folder}/MetaData.Artifact.json", json.dumps(named | {"artifactType": "AVRO"}))
    for release in versions:
        about = named | {
            "globalId": release.schema_id,
            "contentId": release.schema_id,
            "version": str(release.version),
            "versionOrder": release.version,
            "state": "ENABLED",
        }
        entries.writestr(f"{folder}/versions/{release.version}.ArtifactVersion.json", json.dumps(about))
    branch = {"branchId": "latest", "systemDefined": True, "versions": [str(v.version) for v in versions]}
    entries.writestr(f"{folder}/branches/latest.Branch.json", json.dumps(named | branch))


def canonical(text: str) -> str:
    """The schema as Apicurio compares it.

    Docs are emptied, inner records have no namespace, and a field that may be null has null as its default.
    """
    return json.dumps(_emptied(json.loads(text)), separators=(",", ":"), ensure_ascii=False)


def _emptied(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_inner(_emptied(part)) for part in schema]
    if not isinstance(schema, dict):
        return schema
    emptied = {
        key: "" if key == "doc" else value if key == "default" else _inner(_emptied(value))
        for key, value in schema.items()
    }
    is_nullable = isinstance(schema.get("type"), list) and schema["type"][0] == "null"
    return {**emptied, "default": schema.get("default")} if is_nullable else emptied


def _inner(schema: Any) -> Any:
    return {k: v for k, v in schema.items() if k != "namespace"} if isinstance(schema, dict) else schema


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
