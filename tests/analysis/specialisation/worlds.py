"""Made-up routes over documents that differ from each other, as those of real text do."""

import numpy as np

from glam.analysis.specialisation.labels import Documents, Labels

NUM_EXPERTS = 8
DOMAINS = ["books", "posts", "notes"]
CLASSES = ["word", "number", "point"]


def documents(rng, counts=(8, 40, 160), tokens=2000):
    """Three domains of equal size: a few long documents, some, and many short ones."""
    parts = [rng.multinomial(tokens - 2 * n, np.full(n, 1 / n)) + 2 for n in counts]
    lengths = np.concatenate(parts)
    return Documents(np.r_[0, np.cumsum(lengths)], np.repeat(np.arange(3), counts))


def null_routes(rng, docs, base=None, like=20.0):
    """Each document has its own shares of the experts, whatever its domain and its tokens are;
    the last experts are rare."""
    base = np.array([30, 25, 20, 12, 8, 4, 0.8, 0.2]) / 100 if base is None else base
    shares = rng.dirichlet(base * like, len(docs))[docs.of_token]
    drawn = rng.random((len(shares), 1))
    return np.minimum((shares.cumsum(1) < drawn).sum(1), NUM_EXPERTS - 1)


def labels(rng, docs):
    tokens = rng.zipf(1.5, docs.offsets[-1]) % 60
    names = [str(token) for token in range(60)]
    domain = docs.strata[docs.of_token]
    return [
        Labels("token", tokens, names),
        Labels("class", tokens % 3, CLASSES),
        Labels("domain", domain, DOMAINS, of_documents=True),
    ]
