"""Features of many symbols, some of which compare them at one time: `cs_rank(returns)`.

`stages.cut` cuts definitions into what each symbol computes alone and what is compared between them.
`build.build_universe` runs that over files in processes, `stream.UniverseStream` bar by bar: the same bits.
"""
