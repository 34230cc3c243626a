"""The one way a preparation step tells a person that it cannot go on."""


class ProvisionError(Exception):
    """Something the stack needs could not be found, downloaded, built or started.

    Attributes:
        what: What failed, as a clause without a full stop ("daprd could not be built").
        why: The cause in the reader's words, one line where possible.
        fix: What the reader can do about it, as a sentence without a full stop.
    """

    def __init__(self, what: str, why: str, fix: str) -> None:
        """Keep the three parts and join them to the sentence that `str()` gives."""
        self.what = what.rstrip(". ")
        self.why = why.rstrip(". \n")
        self.fix = fix.rstrip(". ")
        super().__init__(f"{self.what}: {self.why}. {self.fix}.")
