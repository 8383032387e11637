"""Tell which words of an answer were said within how much of its sound."""

CHARACTERS_PER_SECOND = 15  # of Spanish speech, about


class SpokenWords:
    """The phrases of an answer as they are spoken, each with its samples. One thread writes, any may read.

    Args:
        sampling_rate: Hz of the samples.
    """

    def __init__(self, sampling_rate: int):
        self.sampling_rate = sampling_rate
        self._phrases: list[tuple[str, int, bool]] = []  # each with its samples so far, and whether these are all

    def begin(self, phrase: str) -> None:
        """Add the next phrase, of which there is no sound yet."""
        self._phrases.append((phrase, 0, False))

    def add(self, samples: int) -> None:
        """Count samples of the phrase that began last."""
        phrase, before, _ = self._phrases[-1]
        self._phrases[-1] = (phrase, before + samples, False)

    def end(self) -> None:
        """Note that the phrase that began last has all of its sound, which may be none."""
        phrase, samples, _ = self._phrases[-1]
        self._phrases[-1] = (phrase, samples, True)

    def within(self, samples: int) -> str:
        """Return the words that were said within so many samples from the beginning."""
        words: list[str] = []
        for phrase, length, is_whole in list(self._phrases):
            if is_whole and samples >= length:
                words.append(phrase)
            else:  # its words are taken to be equally long
                estimate = 0.0 if is_whole else len(phrase) / CHARACTERS_PER_SECOND * self.sampling_rate
                words += phrase.split()[: int(len(phrase.split()) * samples / max(length, estimate))]
                break
            samples -= length
        return " ".join(words)
