"""The words and the eye of the tiny Stable Diffusion: a tokenizer, and a tiny CLIP."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course.recipes.base import Recipe
from course.recipes.scenery.data import (
    DAPPLED,
    as_tensor,
    attributes,
    captions,
    scenes,
)
from course.recipes.scenery.patterns import MODULES
from course.recipes.scenery.publishing import PIPELINE, half, load_part, publish_folders
from course.recipes.scenery.vae import random_modules, relit
from course.scenery import ATTRIBUTES, vocabulary
from course.scenery.world import Attributes
from course.scenery_models import HELD_OUT, ImageEncoder, save_image_encoder, shrunk, token_ids
from course.training import batch_indices
from course.weights import Card

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# The longest caption has 42 words; a beginning and an end are added.
MAX_WORDS = 48


def known_words() -> list[str]:
    """Every word that a caption can hold, sorted: of scenes, and of patterns in their light."""
    return sorted({*vocabulary(), *DAPPLED.lower().split()})


def build_tokenizer() -> "PreTrainedTokenizerFast":
    """One token a word, in lower case and without punctuation; a word unknown is `[UNK]`."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    # `[END]` is not 2: at that number CLIPTextModel keeps an old mistake alive.
    words = {w: i for i, w in enumerate(["[UNK]", "[BOS]", "[RESERVED]", "[END]", *known_words()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\w\s]"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(token, words[token]) for token in ("[BOS]", "[END]")]
    tokenizer.post_processor = processors.TemplateProcessing("[BOS] $A [END]", special_tokens=ends)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        bos_token="[BOS]",
        eos_token="[END]",
        pad_token="[END]",
        model_max_length=MAX_WORDS,
    )


class TinyCLIP(nn.Module):
    """A text encoder and an image encoder that agree on which caption tells of which picture.

    images: (b, 3, 80, 80) in [−1, 1]; ids: (b, 48) int64 -> how well each picture (rows) and each
    caption (columns) agree, (b, b), and the logits of what each picture holds.
    """

    def __init__(self, words: int, dim: int = 128, layers: int = 3) -> None:
        from transformers import CLIPTextConfig, CLIPTextModel

        super().__init__()
        config = CLIPTextConfig(
            vocab_size=words,
            hidden_size=dim,
            intermediate_size=2 * dim,
            projection_dim=dim,
            num_hidden_layers=layers,
            num_attention_heads=4,
            max_position_embeddings=MAX_WORDS,
            bos_token_id=1,
            eos_token_id=3,
            pad_token_id=3,
        )
        self.text = CLIPTextModel(config)
        self.image = ImageEncoder({name: len(values) for name, values in ATTRIBUTES.items()})
        # The logarithm of 1/temperature, as in CLIP.
        self.log_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, images: Tensor, ids: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        pooled = self.image.pooled(images)
        text = F.normalize(self.text(input_ids=ids).pooler_output, dim=1)
        image = F.normalize(self.image.project(pooled), dim=1)
        scale = self.log_scale.exp().clamp(max=100)
        return scale * image @ text.T, self.image.classify(pooled)


def clip_loss(model: nn.Module, images: Tensor, ids: Tensor, holds: Tensor) -> Tensor:
    """Each caption picks its picture out of the batch and the reverse (Radford et al. 2021).

    To it comes the cross-entropy of what each picture holds: (b, attributes) int64 in `holds`.
    """
    logits, guesses = model(images, ids)
    own = torch.arange(len(logits), device=logits.device)
    agree = 0.5 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
    told = [F.cross_entropy(guess, y) for guess, y in zip(guesses.values(), holds.T, strict=True)]
    return agree + torch.stack(told).mean()


def holdings(chosen: list[Attributes]) -> Tensor:
    """Each scene's attributes as the numbers of their values: (b, attributes) int64."""
    return torch.tensor([[ATTRIBUTES[k].index(a[k]) for k in ATTRIBUTES] for a in chosen])


@torch.no_grad()
def retrieval(clip: Any, images: Tensor, ids: Tensor) -> float:
    """How often a caption finds its own picture among all of them."""
    logits, _ = clip(images, ids)
    return logits.argmax(dim=0).eq(torch.arange(len(logits))).float().mean().item()


@torch.no_grad()
def measure_clip(clip: Any) -> dict[str, float]:
    """Retrieval among 100 unseen scenes, the mean of two hundreds; and what it sees in them."""
    tokenizer, generator = build_tokenizer(), torch.Generator().manual_seed(1)
    images = shrunk(as_tensor(scenes(200, first=HELD_OUT)))
    chosen = [attributes(HELD_OUT + i) for i in range(len(images))]
    ids = token_ids(tokenizer, captions(chosen, generator))
    found = [retrieval(clip, *pair) for pair in zip(images.split(100), ids.split(100), strict=True)]
    guesses = clip.image.classify(clip.image.pooled(images))
    pairs = zip(guesses.values(), holdings(chosen).T, strict=True)
    right = [guess.argmax(dim=1).eq(y).float().mean().item() for guess, y in pairs]
    return {
        "retrieval_top1_among_100": round(sum(found) / len(found), 3),
        "kind_accuracy_200_scenes": round(right[0], 3),
        "attribute_accuracy_200_scenes": round(sum(right) / len(right), 3),
    }


def publish_clip(clip: Any, card: Card) -> Path:
    """The tokenizer and the text encoder of the pipeline, and beside them the image encoder."""
    kept = half(clip)
    parts = {
        "tokenizer": save_tokenizer,
        "text_encoder": lambda folder: save_text_encoder(kept.text, folder),
        "image_encoder": lambda folder: save_image_encoder(kept.image, folder),
    }
    return publish_folders(PIPELINE, "scenery-clip", card, parts)


def save_tokenizer(folder: Path) -> None:
    """The tokenizer's files, under the class that every transformers knows."""
    build_tokenizer().save_pretrained(folder)
    _set(folder / "tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast")


def save_text_encoder(text: Any, folder: Path) -> None:
    """The text encoder's files; they ask to be computed in float32, like diffusers' models."""
    text.save_pretrained(folder)
    _set(folder / "config.json", "dtype", "float32")


def _set(path: Path, key: str, value: str) -> None:
    """Change one entry of a JSON file."""
    about = json.loads(path.read_text(encoding="utf-8")) | {key: value}
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8", newline="\n")


def load_published_clip(clip: Any) -> nn.Module:
    """The shipped halves; the temperature starts anew."""
    load_part(clip.text, "text_encoder")
    load_part(clip.image, "image_encoder")
    return clip  # type: ignore[no-any-return]


def scenery_clip(steps: int = 1_500, n: int = 6000, batch_size: int = 96) -> Recipe:
    """The tokenizer, the text encoder and the image encoder, trained together."""
    small = torch.cat([shrunk_bytes(part) for part in torch.from_numpy(scenes(n)).split(500)])
    chosen, tokenizer = [attributes(i) for i in range(n)], build_tokenizer()
    holds, seed = holdings(chosen), 0

    def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        i = batch_indices(n, batch_size, step, seed)
        x = as_tensor(small[i].numpy())
        mirrored = torch.rand(batch_size, 1, 1, 1, generator=generator) < 0.5
        dappled = torch.rand(batch_size, generator=generator) < 0.25
        x = with_dapples(torch.where(mirrored, x.flip(3), x), dappled, generator)
        said = captions([chosen[k] for k in i.tolist()], generator, dappled.tolist())
        return x, token_ids(tokenizer, said), holds[i]

    return Recipe(
        name="scenery-clip",
        about="The tokenizer, text encoder and image encoder of the tiny Stable Diffusion.",
        build=lambda: TinyCLIP(len(tokenizer)),
        draw=draw,
        loss_fn=lambda model, *drawn: clip_loss(model, *drawn),
        measure=measure_clip,
        steps=steps,
        batch_size=batch_size,
        lr=2e-3,
        ema_decay=0.995,
        config={"words": len(tokenizer), "scenes": n},
        seed=seed,
        publish=publish_clip,
        published=load_published_clip,
    )


def with_dapples(images: Tensor, dappled: Tensor, generator: torch.Generator) -> Tensor:
    """Some of the pictures with modules in their light: (b, 3, 80, 80), (b,) -> as images."""
    strength = 0.3 + 0.6 * torch.rand(len(images), 1, 1, 1, generator=generator)
    lit = relit(images, random_modules(len(images), MODULES, generator), strength)
    return torch.where(dappled[:, None, None, None], lit, images)


def shrunk_bytes(images: Tensor) -> Tensor:
    """Means of 2 × 2 pixels: (b, 2h, 2w, 3) uint8 -> (b, h, w, 3) uint8."""
    b, h, w, c = images.shape
    means = images.view(b, h // 2, 2, w // 2, 2, c).float().mean(dim=(2, 4))
    return means.round().to(torch.uint8)
