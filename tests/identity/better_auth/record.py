"""Records what the real better-auth answers: `python -m tests.identity.better_auth.record`."""

from tests.identity.better_auth.provider import ALGORITHMS, Answers, asked, record, running


def answers(algorithm: str) -> Answers:
    """Give those of a provider that signs so."""
    with running(algorithm) as url:
        return asked(url)


if __name__ == "__main__":
    record({algorithm: answers(algorithm) for algorithm in ALGORITHMS})
