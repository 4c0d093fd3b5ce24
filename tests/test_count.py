"""`count` against published numbers, `transformers` models on the meta device, and its own laws."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucidlm.config import (
    Attention,
    Config,
    Embedding,
    FeedForward,
    Head,
    Local,
    Norm,
    RelativeBias,
    Rope,
    Stack,
)
from lucidlm.count import count

RMS = Norm(kind="rms")
LEARNED = Embedding(positions="learned")


def attention(dim: int, heads: int, kv_heads: int = 0, head_dim: int = 0, **rest) -> Attention:
    head_dim = head_dim or dim // heads
    return Attention(
        heads=heads, kv_heads=kv_heads or heads, head_dim=head_dim, scale=head_dim**-0.5, **rest
    )


def gpt2(dim: int, layers: int, heads: int, positions: int = 1024) -> Config:
    stack = Stack(
        layers=layers,
        attention=attention(dim, heads, bias=True, output_bias=True),
        feedforward=FeedForward(hidden=4 * dim, activation="gelu_tanh", bias=True),
        norm=Norm(),
        norm_places=("input",),
        mask="causal",
        final_norm=True,
    )
    return Config(
        dim=dim,
        vocab_size=50257,
        max_positions=positions,
        embedding=LEARNED,
        decoder=stack,
        head=Head(),
    )


def llama(
    dim: int, layers: int, heads: int, kv_heads: int, hidden: int, words: int, tied: bool = False
) -> Config:
    stack = Stack(
        layers=layers,
        attention=attention(dim, heads, kv_heads, rope=Rope()),
        feedforward=FeedForward(hidden=hidden, activation="silu", gated=True),
        norm=RMS,
        norm_places=("input",),
        mask="causal",
        final_norm=True,
    )
    return Config(
        dim=dim,
        vocab_size=words,
        max_positions=4096,
        embedding=Embedding(),
        decoder=stack,
        head=Head(tied=tied),
    )


def gemma3_270m() -> Config:
    local = Local(layers=tuple(i for i in range(18) if (i + 1) % 6), window=512, rope=Rope())
    stack = Stack(
        layers=18,
        attention=attention(640, 4, 1, 256, rope=Rope(base=1e6), qk_norm=RMS, local=local),
        feedforward=FeedForward(hidden=2048, activation="gelu_tanh", gated=True),
        norm=RMS,
        norm_places=("input", "output"),
        mask="causal",
        final_norm=True,
    )
    return Config(
        dim=640,
        vocab_size=262144,
        max_positions=32768,
        embedding=Embedding(),
        decoder=stack,
        head=Head(),
    )


def bert(head: bool, pooler: bool) -> Config:
    stack = Stack(
        layers=12,
        attention=attention(768, 12, bias=True, output_bias=True),
        feedforward=FeedForward(hidden=3072, activation="gelu", bias=True),
        norm=Norm(),
        norm_places=("residual",),
        mask="full",
    )
    return Config(
        dim=768,
        vocab_size=30522,
        max_positions=512,
        embedding=Embedding(positions="learned", segments=2, norm=Norm()),
        encoder=stack,
        head=Head(bias=True, transform="gelu", norm=Norm()) if head else None,
        pooler=pooler,
    )


def t5(
    tied: bool, gated: bool, layers: int = 6, heads: int = 8, hidden: int = 2048, dim: int = 512
) -> Config:
    encoder = Stack(
        layers=layers,
        attention=attention(dim, heads, head_dim=64, relative=RelativeBias()),
        feedforward=FeedForward(hidden=hidden, activation="relu", gated=gated),
        norm=RMS,
        norm_places=("input",),
        mask="full",
        final_norm=True,
    )
    decoder = replace(encoder, mask="causal", cross=attention(dim, heads, head_dim=64))
    return Config(
        dim=dim,
        vocab_size=32128,
        max_positions=512,
        embedding=Embedding(),
        encoder=encoder,
        decoder=decoder,
        head=Head(tied=tied),
    )


def bart() -> Config:
    encoder = Stack(
        layers=6,
        attention=attention(768, 12, bias=True, output_bias=True),
        feedforward=FeedForward(hidden=3072, activation="gelu", bias=True),
        norm=Norm(),
        norm_places=("residual",),
        mask="full",
    )
    return Config(
        dim=768,
        vocab_size=50265,
        max_positions=1024,
        embedding=Embedding(positions="learned", position_offset=2, norm=Norm()),
        encoder=encoder,
        decoder=replace(
            encoder, mask="causal", cross=attention(768, 12, bias=True, output_bias=True)
        ),
        head=Head(),
    )


GPT3 = gpt2(12288, 96, 96, positions=2048)


def test_gpt3_is_the_number_everyone_derives_by_hand():
    costs = count(GPT3)
    d = 12288
    assert (
        costs.parameters
        == 96 * (12 * d * d + 13 * d) + 50257 * d + 2048 * d + 2 * d
        == 174_604_259_328
    )
    assert costs.parts.attention_projections == 4 * d * d * 96 == 57_982_058_496
    assert costs.parts.embedding == (50257 + 2048) * d
    assert costs.flops_per_token == 2 * (96 * 12 * d * d + 50257 * d)
    assert costs.kv_cache_bytes_per_token == 96 * 2 * d * 2
    assert costs.training_state_bytes == 16 * 174_604_259_328
    assert costs.training_memory_bytes == costs.training_state_bytes + costs.activation_bytes(
        1, 2048
    )


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (gpt2(768, 12, 12), 124_439_808),  # GPT-2
        (gpt2(1600, 48, 25), 1_557_611_200),  # GPT-2 XL
        (llama(4096, 32, 32, 32, 11008, 32000), 6_738_415_616),  # Llama 2 7B
        (llama(4096, 32, 32, 8, 14336, 128256), 8_030_261_248),  # Llama 3 8B
        (llama(576, 30, 9, 3, 1536, 49152, tied=True), 134_515_008),  # SmolLM2-135M
        (gemma3_270m(), 268_098_176),
        (bert(head=False, pooler=True), 109_482_240),  # BERT-base, its encoder and pooler
        (t5(tied=True, gated=False), 60_506_624),  # T5-small
        (t5(tied=False, gated=True, layers=8, heads=6, hidden=1024), 76_961_152),  # T5 v1.1 small
    ],
)
def test_parameters_as_published(config, published):
    assert count(config).parameters == published


def _transformers_models():
    import transformers as hf

    yield gpt2(96, 3, 4), hf.GPT2LMHeadModel(hf.GPT2Config(n_embd=96, n_layer=3, n_head=4))
    yield (
        llama(96, 3, 6, 2, 160, 500),
        hf.LlamaForCausalLM(
            hf.LlamaConfig(
                hidden_size=96,
                num_hidden_layers=3,
                num_attention_heads=6,
                num_key_value_heads=2,
                intermediate_size=160,
                vocab_size=500,
            )
        ),
    )
    yield bert(head=True, pooler=False), hf.BertForMaskedLM(hf.BertConfig())
    yield bert(head=False, pooler=True), hf.BertModel(hf.BertConfig())
    yield t5(tied=True, gated=False), hf.T5ForConditionalGeneration(hf.T5Config())
    gated = hf.T5Config(feed_forward_proj="gated-gelu")
    yield t5(tied=True, gated=True), hf.T5ForConditionalGeneration(gated)
    small = hf.BartConfig(encoder_layers=6, decoder_layers=6, d_model=768, encoder_ffn_dim=3072)
    small.update(
        {"encoder_attention_heads": 12, "decoder_attention_heads": 12, "decoder_ffn_dim": 3072}
    )
    yield bart(), hf.BartForConditionalGeneration(small)
    yield (
        gemma3_270m(),
        hf.Gemma3ForCausalLM(
            hf.Gemma3TextConfig(
                hidden_size=640,
                num_hidden_layers=18,
                num_attention_heads=4,
                num_key_value_heads=1,
                head_dim=256,
                intermediate_size=2048,
                vocab_size=262144,
            )
        ),
    )


def test_parameters_are_those_of_transformers():
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with torch.device("meta"):
        pairs = list(_transformers_models())
    for config, model in pairs:
        assert count(config).parameters == sum(p.numel() for p in model.parameters()), type(
            model
        ).__name__


@pytest.mark.parametrize("config", [GPT3, gemma3_270m(), bert(True, True), t5(False, True), bart()])
def test_parts_sum_to_the_whole_and_flops_touch_each_matrix_once(config):
    costs = count(config)
    parts = costs.parts
    assert sum(costs.to_json()["parts"].values()) == costs.parameters
    for lang in ("en", "zh"):
        assert sum(parts.named(lang).values()) == costs.parameters
    tied = config.vocab_size * config.dim if config.head and config.head.tied else 0
    biases = sum(
        s.layers
        * s.feedforward.bias
        * ((1 + s.feedforward.gated) * s.feedforward.hidden + config.dim)
        for s in config.stacks.values()
    )
    transform = config.head is not None and config.head.transform is not None
    head_vectors = (
        config.head.bias * config.vocab_size + transform * 3 * config.dim if config.head else 0
    )
    matrices = (
        parts.attention_projections + parts.feedforward - biases + parts.head - head_vectors + tied
    )
    assert costs.flops_per_token + costs.flops_per_source_token == 2 * matrices


def test_encoder_decoder_charges_source_and_target_apart():
    costs = count(t5(tied=True, gated=False))
    square, ffn = 512 * 512, 2 * 512 * 2048
    assert costs.flops_per_source_token == 2 * 6 * (4 * square + ffn + 2 * square)
    assert costs.flops_per_token == 2 * (6 * (4 * square + 2 * square + ffn) + 32128 * 512)
    assert (
        costs.kv_cache_bytes_per_token
        == costs.cross_cache_bytes_per_source_token
        == 6 * 2 * 512 * 2
    )
    assert costs.attention_flops_per_token(10, source=7) == 6 * 4 * 512 * (10 + 7)
    assert costs.kv_cache_bytes(10, source=7) == 6 * 2 * 512 * 2 * (10 + 7)


def test_encoder_keeps_no_cache():
    costs = count(bert(True, True))
    assert costs.kv_cache_bytes_per_token == costs.kv_cache_bytes(512) == 0
    assert costs.attention_flops_per_token(512) == 12 * 4 * 768 * 512


def test_local_layers_stop_at_their_window():
    costs = count(gemma3_270m())
    assert costs.attention_flops_per_token(400) == 4 * 4 * 256 * 18 * 400
    assert costs.attention_flops_per_token(2000) == 4 * 4 * 256 * (3 * 2000 + 15 * 512)
    assert costs.kv_cache_bytes(2000) == 2 * 256 * 2 * (3 * 2000 + 15 * 512)
    assert costs.kv_cache_bytes_per_token == 2 * 256 * 2 * 18
    assert costs.to_json()["local_layers"] == {"layers": 15, "window": 512}


@given(batch=st.integers(1, 64), length=st.integers(1, 8192))
def test_activations_are_korthikantis_formula_on_gpts_shape(batch, length):
    s, b, a, h, layers, v = length, batch, 96, 12288, 96, 50257
    layers_bytes = layers * (34 * s * b * h + 5 * a * s * s * b)
    ends = s * b * h + 4 * s * b * h + 4 * s * b * v
    assert count(GPT3).activation_bytes(b, s) == layers_bytes + ends


def test_json_is_json_and_notes_are_in_both_languages():
    for config in (GPT3, gemma3_270m(), bert(True, True), bart()):
        costs = count(config)
        wanted = {
            "parameters",
            "attention_projection_parameters",
            "embedding_parameters",
            "flops_per_token",
            "kv_cache_bytes_per_token",
            "training_memory_bytes",
        }
        assert wanted <= json.loads(json.dumps(costs.to_json())).keys()
        english, chinese = costs.notes("en"), costs.notes("zh")
        assert len(english) == len(chinese) and not set(english) & set(chinese)


def test_neither_numpy_nor_torch_is_imported():
    code = "import sys, lucidlm.count; sys.exit(bool({'numpy', 'torch'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
