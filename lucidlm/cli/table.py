"""Which commands there are, the module each lives in, and examples of its use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Entry:
    """`module` of `lucidlm.cli` has a function of the command's name."""

    module: str
    examples: tuple[str, ...]
    signs: bool = False  # words may begin with "-" (king -man): what is no option is an argument


COMMANDS = {
    "run": Entry(
        module="generation",
        examples=(
            'lucidlm run "我很"',
            'lucidlm run "The capital of France is" --model smollm2-135m',
            'lucidlm run "今天是我的生日，我很" --model gemma3-270m --max-new-tokens 20',
            'lucidlm run "I like" --steps',
            'lucidlm run "床前明月光，" --model poet --temperature 0.8 --top-p 0.9 --seed 1 --json',
        ),
    ),
    "chat": Entry(
        module="chat",
        examples=(
            "lucidlm chat",
            'lucidlm chat --model smollm2-135m --system "You are a pirate." --temperature 0.7',
            "echo '世界上最高的山峰是哪座？' | lucidlm chat --json",
        ),
    ),
    "translate": Entry(
        module="generation",
        examples=(
            'lucidlm translate "我爱你"',
            'lucidlm translate "我很开心" --model Helsinki-NLP/opus-mt-zh-en',
        ),
    ),
    "fill": Entry(
        module="generation",
        examples=(
            'lucidlm fill "我很[MASK]心。"',
            'lucidlm fill "The [MASK] sat on the mat." --model google-bert/bert-base-uncased',
        ),
    ),
    "tokenize": Entry(
        module="words",
        examples=(
            'lucidlm tokenize "世界上最高的山峰是哪座?"',
            'lucidlm tokenize "unbelievable" --kind wordpiece',
            'lucidlm tokenize "I love you." --model smollm2-135m',
            "lucidlm tokenize --compare",
        ),
    ),
    "analogy": Entry(
        module="words",
        examples=("lucidlm analogy king - man + woman", "lucidlm analogy 'paris - france + italy'"),
        signs=True,
    ),
    "count": Entry(
        module="measure",
        examples=(
            "lucidlm count gpt3-175b",
            "lucidlm count smollm2-135m --here",
            "lucidlm count path/to/config.json --json",
        ),
    ),
    "models": Entry(module="store", examples=("lucidlm models", "lucidlm models --presets")),
    "pull": Entry(
        module="store",
        examples=("lucidlm pull smollm2-135m", "lucidlm pull gemma3-270m --accept-license"),
    ),
    "export": Entry(
        module="store", examples=("lucidlm export smollm2-135m smollm2 --dtype bfloat16",)
    ),
    "score": Entry(module="measure", examples=("lucidlm score book.txt --model smollm2-135m",)),
    "train": Entry(
        module="train",
        examples=(
            "lucidlm train examples/characters/recipe.toml --dry-run",
            "lucidlm train examples/characters/recipe.toml --out build/mine",
            "lucidlm train recipe.toml --set steps=2000 --set optimiser.rate=3e-4",
            "lucidlm train recipe.toml --out build/mine --resume",
        ),
    ),
    "trace": Entry(
        module="glass",
        examples=(
            'lucidlm trace "The capital of China is"',
            'lucidlm trace "我很" --max-new-tokens 3 --keep "*.pattern" --save run.safetensors',
            'lucidlm trace "The cat sat" --edit "zero:layers.3.attention.mixed[head=2]"',
        ),
    ),
    "sites": Entry(
        module="glass",
        examples=(
            "lucidlm sites smollm2-135m",
            'lucidlm sites gpt3-175b "*.attention.pattern"',
            "lucidlm sites minilm-l6 blocks.0.attn.hook_z --json",
        ),
    ),
    "explain": Entry(
        module="glass",
        examples=(
            'lucidlm explain "The capital of France is" "sampling.probabilities[-1, 7042]"',
            'lucidlm explain "The cat sat" "layers.3.attention.pattern[2, -1, 0]" --depth 2',
            'lucidlm explain "The cat" "head.logits[-1, 0]" --numpy cat.npz > cat.py',
        ),
    ),
    "verify": Entry(
        module="glass",
        examples=(
            'lucidlm verify --model smollm2-135m "The capital of France is"',
            'lucidlm verify "我很开心" --json',
        ),
    ),
    "lesson": Entry(
        module="lesson",
        examples=(
            "lucidlm lesson",
            "lucidlm lesson attention-by-hand --lang zh",
            "lucidlm lesson attention-by-hand --code > attention.py",
        ),
    ),
    "doctor": Entry(module="doctor", examples=("lucidlm doctor",)),
    "check": Entry(
        module="check",
        examples=(
            "lucidlm check --signatures > transformer.py",
            "lucidlm check transformer.py",
            "lucidlm check transformer.py --json --lang zh",
        ),
    ),
}
