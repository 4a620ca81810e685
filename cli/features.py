"""`bellwether features`: the catalogue."""

from cli.output import console, emit_json, table


def features(search: str | None, *, as_json: bool) -> None:
    """List the catalogue, or what of it contains `search`."""
    from features import catalogue

    chosen = [
        f for f in catalogue.CATALOGUE if search is None or search in f"{f.name} {f.expression} {f.group}"
    ]
    rows = [
        {
            "name": feature.name,
            "expression": feature.expression,
            "group": feature.group,
            "range": feature.range,
            "source": feature.source,
            "warmup": str(catalogue.warmup({feature.name: feature.expression})),
        }
        for feature in chosen
    ]
    if as_json:
        emit_json(rows)
        return
    cells = [[r["name"], r["group"], r["range"], r["warmup"], r["expression"]] for r in rows]
    console.print(table(["name", "group", "range", "warm-up", "formula"], cells, right=["warm-up"]))
    console.print(f"[dim]{len(rows)} of {len(catalogue.CATALOGUE)} features[/dim]")
