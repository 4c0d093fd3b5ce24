"""Config files as their publishers wrote them, old keys and all, are read without complaint."""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest

from lucidlm.families import by_model_type
from lucidlm.parameters import parameters

PUBLISHED: dict[str, tuple[str, int]] = {
    "bert-base-chinese": (
        """{"architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1,
        "directionality": "bidi", "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072,
        "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0,
        "pooler_fc_size": 768, "pooler_num_attention_heads": 12, "pooler_num_fc_layers": 3,
        "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
        "type_vocab_size": 2, "vocab_size": 21128}""",
        102_290_312,
    ),
    "opus-mt-zh-en": (
        """{"_num_labels": 3, "activation_dropout": 0.0, "activation_function": "swish",
        "add_bias_logits": false, "add_final_layer_norm": false, "architectures": ["MarianMTModel"],
        "attention_dropout": 0.0, "bad_words_ids": [[65000]], "bos_token_id": 0,
        "classif_dropout": 0.0, "classifier_dropout": 0.0, "d_model": 512,
        "decoder_attention_heads": 8, "decoder_ffn_dim": 2048, "decoder_layerdrop": 0.0,
        "decoder_layers": 6, "decoder_start_token_id": 65000, "decoder_vocab_size": 65001,
        "dropout": 0.1, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048,
        "encoder_layerdrop": 0.0, "encoder_layers": 6, "eos_token_id": 0,
        "extra_pos_embeddings": 65001, "forced_eos_token_id": 0,
        "id2label": {"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}, "init_std": 0.02,
        "is_encoder_decoder": true, "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
        "max_length": 512, "max_position_embeddings": 512, "model_type": "marian",
        "normalize_before": false, "normalize_embedding": false, "num_beams": 6,
        "num_hidden_layers": 6, "pad_token_id": 65000, "scale_embedding": true,
        "share_encoder_decoder_embeddings": true, "static_position_embeddings": true,
        "transformers_version": "4.22.0.dev0", "use_cache": true, "vocab_size": 65001}""",
        77_484_009,
    ),
    "bart-base": (
        """{"_name_or_path": "bart-base", "activation_dropout": 0.1, "activation_function": "gelu",
        "add_bias_logits": false, "add_final_layer_norm": false, "architectures": ["BartModel"],
        "attention_dropout": 0.1, "bos_token_id": 0, "classif_dropout": 0.1,
        "classifier_dropout": 0.0, "d_model": 768, "decoder_attention_heads": 12,
        "decoder_ffn_dim": 3072, "decoder_layerdrop": 0.0, "decoder_layers": 6,
        "decoder_start_token_id": 2, "dropout": 0.1, "early_stopping": true,
        "encoder_attention_heads": 12, "encoder_ffn_dim": 3072, "encoder_layerdrop": 0.0,
        "encoder_layers": 6, "eos_token_id": 2, "forced_eos_token_id": 2,
        "forced_bos_token_id": 0, "gradient_checkpointing": false, "init_std": 0.02,
        "is_encoder_decoder": true, "max_position_embeddings": 1024, "model_type": "bart",
        "no_repeat_ngram_size": 3, "normalize_before": false, "normalize_embedding": true,
        "num_beams": 4, "num_hidden_layers": 6, "pad_token_id": 1, "scale_embedding": false,
        "task_specific_params": {"summarization": {"length_penalty": 1.0}},
        "torch_dtype": "float32", "transformers_version": "4.12.0.dev0", "use_cache": true,
        "vocab_size": 50265}""",
        139_470_681,
    ),
    "qwen2.5-0.5b": (
        """{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
        "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896,
        "initializer_range": 0.02, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.40.1", "use_cache": true,
        "use_mrope": false, "use_sliding_window": false, "vocab_size": 151936}""",
        494_032_768,
    ),
    "t5-small": (
        """{"architectures": ["T5ForConditionalGeneration"], "d_ff": 2048, "d_kv": 64,
        "d_model": 512, "decoder_start_token_id": 0, "dropout_rate": 0.1, "eos_token_id": 1,
        "initializer_factor": 1.0, "is_encoder_decoder": true, "layer_norm_epsilon": 1e-06,
        "model_type": "t5", "n_positions": 512, "num_heads": 8, "num_layers": 6,
        "output_past": true, "pad_token_id": 0, "relative_attention_num_buckets": 32,
        "task_specific_params": {"translation_en_to_de": {"max_length": 300, "num_beams": 4}},
        "vocab_size": 32128}""",
        60_506_624,
    ),
    "smollm2-135m": (
        """{"architectures": ["LlamaForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
        "hidden_size": 576, "initializer_range": 0.041666666666666664, "intermediate_size": 1536,
        "is_llama_config": true, "max_position_embeddings": 8192, "mlp_bias": false,
        "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
        "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16",
        "transformers.js_config": {"kv_cache_dtype": {"q4f16": "float16"}},
        "transformers_version": "4.42.3", "use_cache": true, "vocab_size": 49152}""",
        134_515_008,
    ),
    "gemma-3-270m": (
        """{"_sliding_window_pattern": 6, "architectures": ["Gemma3ForCausalLM"],
        "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": null,
        "bos_token_id": 2, "eos_token_id": 1, "final_logit_softcapping": null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 640, "initializer_range": 0.02,
        "intermediate_size": 2048, "max_position_embeddings": 32768, "model_type": "gemma3_text",
        "num_attention_heads": 4, "num_hidden_layers": 18, "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06,
        "rope_local_base_freq": 10000.0, "rope_scaling": null, "rope_theta": 1000000.0,
        "sliding_window": 512, "torch_dtype": "bfloat16", "transformers_version": "4.55.0.dev0",
        "use_bidirectional_attention": false, "use_cache": true, "vocab_size": 262144}""",
        268_098_176,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_are_read(name: str) -> None:
    text, size = PUBLISHED[name]
    hf: dict[str, Any] = json.loads(text)
    config = by_model_type(hf).read(hf)
    assert sum(map(prod, parameters(config).values())) == size
