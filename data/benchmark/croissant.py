"""Croissant metadata (mlcommons.org/croissant/1.0): what the benchmark's files and columns are, for machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data.benchmark.provenance import sha256
from data.rows import write_json

CONTEXT: dict[str, object] = {
    "@language": "en", "@vocab": "https://schema.org/", "citeAs": "cr:citeAs", "column": "cr:column",
    "conformsTo": "dct:conformsTo", "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/", "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"}, "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty", "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract", "field": "cr:field", "fileProperty": "cr:fileProperty",
    "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format", "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key", "md5": "cr:md5",
    "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
    "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
    "samplingRate": "cr:samplingRate", "sc": "https://schema.org/", "separator": "cr:separator",
    "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform",
}  # fmt: skip
TEXT, NUMBER, PICTURE = "sc:Text", "sc:Integer", "sc:ImageObject"
COLUMNS = {
    "instruction_id": (NUMBER, "The row's number."),
    "image": (PICTURE, "The picture."),
    "instruction": (TEXT, "The query; read alone it does not give the picture's danger away."),
    "image_path": (TEXT, "The picture's place in VLSBench's layout."),
    "category": (NUMBER, "Number of the category."),
    "sub_category": (NUMBER, "Number of the sub-category."),
    "source": (TEXT, "Where the picture comes from."),
    "image_description": (TEXT, "What the picture shows, or was drawn to show."),
    "safety_reason": (TEXT, "Why answering in full would be unsafe."),
}


@dataclass(frozen=True)
class About:
    """What the metadata say of the benchmark as a whole."""

    name: str
    license: str
    date: str  # ISO
    description: str
    made_with: Mapping[str, str]


def write_croissant(
    folder: Path, about: About, splits: Mapping[str, Sequence[Path]], labels: Mapping[str, Sequence[str]]
) -> None:
    """Write `croissant.json`; `splits` are the Parquet files of each split, `labels` the class names of columns."""
    files = [
        {
            "@type": "cr:FileObject", "@id": path.name, "name": path.name,
            "contentUrl": path.relative_to(folder).as_posix(), "encodingFormat": "application/x-parquet",
            "sha256": sha256(path), "contentSize": f"{path.stat().st_size} B",
        }
        for paths in splits.values()
        for path in paths
    ]  # fmt: skip
    records = [_record_set(path.name, split, labels) for split, paths in splits.items() for path in paths]
    write_json(
        folder / "croissant.json",
        _whole(about) | {"distribution": files, "recordSet": [*map(_enumeration, labels.items()), *records]},
    )


def _whole(about: About) -> dict[str, object]:
    made = "; ".join(f"{what}: {tool}" for what, tool in about.made_with.items())
    return {
        "@context": CONTEXT, "@type": "sc:Dataset", "name": about.name, "description": about.description,
        "conformsTo": "http://mlcommons.org/croissant/1.0", "license": about.license, "version": "1.0.0",
        "url": "https://arxiv.org/abs/2411.19939", "datePublished": about.date,
        "citeAs": "Hu et al., VLSBench: Unveiling Visual Leakage in Multimodal Safety, ACL 2025",
        "rai:dataCollection": f"Made by a pipeline of models ({made}), checked by gates and, where the card "
        "says so, by people.",
        "rai:dataUseCases": "Measuring whether multimodal models notice danger in pictures; not for training.",
        "rai:dataLimitations": "The auditor that vouches for the absence of leakage is a statistical "
        "instrument and misses some leaks.",
        "rai:dataSocialImpact": "Shows violence, crime, self-harm, hatred, adult themes and breaches of privacy.",
        "rai:personalSensitiveInformation": "Drawn pictures show nobody who exists; pictures from other "
        "sources may.",
    }  # fmt: skip


def _enumeration(label: tuple[str, Sequence[str]]) -> dict[str, object]:
    """The names behind a column's numbers, in the metadata themselves."""
    column, names = label
    set_of = f"{column}_names"
    return {
        "@type": "cr:RecordSet", "@id": set_of, "name": set_of, "dataType": "sc:Enumeration",
        "key": {"@id": f"{set_of}/number"},
        "field": [
            {"@type": "cr:Field", "@id": f"{set_of}/number", "name": "number", "dataType": NUMBER},
            {"@type": "cr:Field", "@id": f"{set_of}/name", "name": "name", "dataType": TEXT},
        ],
        "data": [{f"{set_of}/number": number, f"{set_of}/name": name} for number, name in enumerate(names)],
    }  # fmt: skip


def _record_set(file: str, split: str, labels: Mapping[str, Sequence[str]]) -> dict[str, object]:
    name = file.removesuffix(".parquet")
    return {
        "@type": "cr:RecordSet", "@id": name, "name": name, "description": f"Rows of the split {split!r}.",
        "field": [_field(name, file, column, column in labels) for column in COLUMNS],
    }  # fmt: skip


def _field(record_set: str, file: str, column: str, labelled: bool) -> dict[str, object]:
    kind, says = COLUMNS[column]
    source: dict[str, object] = {"fileObject": {"@id": file}, "extract": {"column": column}}
    if kind == PICTURE:
        source["transform"] = {"jsonPath": "bytes"}
    field: dict[str, object] = {
        "@type": "cr:Field", "@id": f"{record_set}/{column}", "name": column, "description": says,
        "dataType": kind, "source": source,
    }  # fmt: skip
    if labelled:
        field["references"] = {"field": {"@id": f"{column}_names/number"}}
    return field
