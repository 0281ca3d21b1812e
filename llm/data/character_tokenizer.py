"""A tokenizer with one token for each character, for models that are trained on the spot.

It is a fast tokenizer of transformers: `save_pretrained`, `AutoTokenizer.from_pretrained`, padding and
decoding are theirs. A character outside the alphabet becomes UNKNOWN, which `data.encode` refuses.
"""

from collections.abc import Sequence

from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"


def character_tokenizer(alphabet: str) -> PreTrainedTokenizerFast:
    """Tokens 0 to 2 are PAD, EOS and UNKNOWN, then the characters of `alphabet` in their order."""
    if not alphabet or len(set(alphabet)) < len(alphabet):
        raise ValueError(f"alphabet = {alphabet!r}: give at least one character, and none twice")
    vocabulary = {token: number for number, token in enumerate([PAD, EOS, UNKNOWN, *alphabet])}
    # Byte-pair encoding without merges leaves single characters, blanks and line breaks included.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNKNOWN, fuse_unk=False))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
    )


def decode(tokenizer: PreTrainedTokenizerBase, responses: Sequence[Sequence[int]]) -> list[str]:
    """Texts of the responses, without special tokens."""
    rows = [list(response) for response in responses]
    return tokenizer.batch_decode(rows, skip_special_tokens=True, clean_up_tokenization_spaces=False)
