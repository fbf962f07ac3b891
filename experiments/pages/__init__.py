"""Pages that write their own numbers: `python -m experiments.pages [--check] [PAGE …]`.

Prose is written by hand; every table and every sentence with a number stands in a block of cog
(`<!-- [[[cog claim("energy") ]]] -->` to `<!-- [[[end]]] -->`), whose code is a call of a function
of `experiments.pages.blocks`. A study that is trained again changes its table, and the table its
sentences.
"""
