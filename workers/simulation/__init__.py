"""The simulator: a made-up year, lived by the real product, judged by an oracle of its own.

`life` makes the year up, `run` lives it, `oracle` says what must be told. The oracle's side
(`days`, `ladders`, `states`, `world`, `oracle`) imports nothing of the product.
"""
