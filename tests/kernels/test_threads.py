"""Two Python threads that call one kernel at once, which ctypes lets them: neither disturbs the
other's results."""

import re
import threading

import numpy as np
import pytest
import torch

from glam import kernels
from glam.config import DedupConfig, ModelConfig
from glam.data.scan import NgramTable, scan
from glam.data.scoring import normalised, products
from glam.data.unigram import Piece, Unigram
from glam.model.attention.cpu_kernel import head_attention
from glam.model.attention.position import PositionBias
from glam.model.decoding.kernel_decoder import KernelDecoder
from glam.model.decoding.sampling import Sampling
from glam.model.glam import Glam
from glam.model.loss import token_losses
from glam.model.moe.experts import Experts
from glam.model.moe.experts_cpu_kernel import experts_cpu_kernel, padded_permutation
from glam.model.moe.routing import Routing

pytestmark = pytest.mark.usefixtures("kernels_here")
TURNS = 12


def together(*works):
    """What each of `works` gives alone; all threads then give it again and again, at once."""
    expected = [work() for work in works]
    barrier, wrong = threading.Barrier(len(works)), list[str]()

    def run(work, alone):
        barrier.wait()
        for _ in range(TURNS):
            try:
                made = work()
                same = all(map(torch.equal, made, alone))
            except Exception as error:
                wrong.append(repr(error))
            else:
                if not same:
                    wrong.append("another result")

    threads = [
        threading.Thread(target=run, args=pair) for pair in zip(works, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def dtype(request):
    if not kernels.has_gemm(request.param):
        pytest.skip("no products of our own here")
    return request.param


def test_attention_with_its_gradients(dtype):
    def of(length, seed):
        generator = torch.Generator().manual_seed(seed)
        qkv = torch.randn(2, length, 3, 2, 32, generator=generator).to(dtype).requires_grad_()
        position = PositionBias(2, 8, 20)

        def work():
            y = head_attention(qkv, position, None)
            return [y, *torch.autograd.grad(y.sum(), [qkv, position.bias_NR])]

        return work

    together(of(70, 0), of(130, 1))


def test_experts_with_their_gradients(dtype):
    def of(tokens, seed):
        torch.manual_seed(seed)
        experts = Experts(4, d_model=32, hidden=64)
        for weight in experts.parameters():
            torch.nn.init.normal_(weight)
        x = torch.randn(tokens, 32).to(dtype).requires_grad_()
        chosen, gates = torch.randint(0, 4, (tokens, 2)), torch.rand(tokens, 2)
        routing = Routing(chosen, gates, torch.rand(tokens, 4))
        layout = padded_permutation(chosen, 4, dtype)

        def work():
            y = experts_cpu_kernel(x, routing, experts, layout)
            return [y, *torch.autograd.grad(y.sum(), [x, *experts.parameters()])]

        return work

    together(of(90, 0), of(200, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_losses_with_their_gradients(dtype):
    def of(tokens, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(tokens, 64, generator=generator).to(dtype).requires_grad_()
        w = torch.randn(300, 64, generator=generator).requires_grad_()
        targets = torch.randint(0, 300, (tokens,), generator=generator)

        def work():
            losses = token_losses(x, w, targets, 3.0)
            return [losses.each, *torch.autograd.grad(losses.mean, [x, w])]

        return work

    together(of(50, 0), of(300, 1))


def test_the_optimizers_step():
    def of(a, b, seed):
        generator = torch.Generator().manual_seed(seed)
        start, grad = torch.randn(2, 3, a, b, generator=generator).unbind(0)

        def work():
            p, rows, columns = start.clone(), torch.ones(3, a), torch.ones(3, b)
            numbers = (3, a, b, 0.9, 0.01, 1e-30, 1e-3, 1.0)
            assert not kernels.call("adafactor", p, grad, rows, columns, *numbers)
            return [p, rows, columns]

        return work

    together(of(100, 150, 0), of(70, 300, 1))


def test_decoders_of_one_model():
    torch.manual_seed(0)
    shape = {"d_model": 32, "d_ff": 64, "num_heads": 2, "num_experts": 4, "vocab_size": 90}
    model = Glam(ModelConfig(num_layers=2, **shape)).eval()

    def of(prompts, temperature):
        numbers = torch.rand(8, len(prompts)).tolist()

        def work():
            decoder = KernelDecoder(model)
            logits = decoder.start(prompts, room=9)
            sampling = Sampling(temperature=temperature, top_p=0.9)
            first = [prompt[-1] for prompt in prompts]
            return [logits, torch.tensor(decoder.ahead(first, numbers, sampling))]

        return work

    together(of([[1, 2, 3], [4]], 0.8), of([[5, 6, 7, 8]], 0.0))


WORDS = re.findall("[a-z]+", "the cat sat on a mat and a dog lay by the door of an old house")


def texts_of(seed, count=40):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, 1 + generator.integers(60))) for _ in range(count)]


def test_one_memory_of_a_tokenizer():
    letters = enumerate("abcdefghijklmnopqrstuvwxyz")
    pieces = [Piece(letter, 4 + i, -4.0 - i / 50, False) for i, letter in letters]
    longer = ("\u2581", -3.0), ("\u2581the", -2.0), ("at", -2.5)
    pieces += [Piece(text, 40 + i, score, False) for i, (text, score) in enumerate(longer)]
    unigram = Unigram(pieces, list(range(100, 356)), unknown=0, begin=1)

    def of(seed):
        texts = texts_of(seed)
        return lambda: [torch.from_numpy(each.astype(np.int64)) for each in unigram.encode(texts)]

    together(of(0), of(1))


def test_scans_and_scores_of_pages():
    table = NgramTable.of((3,), np.arange(1, 999, dtype=np.uint64))
    weights = np.random.default_rng(0).integers(-99, 99, (2, 1 << 12)).astype(np.int32)

    def of(seed):
        texts = texts_of(seed)
        folds = np.arange(len(texts)) % 2

        def work():
            found = scan(texts, DedupConfig(), table)
            rows = normalised(texts, 1 << 12, 2)
            arrays = (found.bands, found.hit_documents, *products(texts, weights, folds, 2))
            return [
                *(torch.from_numpy(a.astype(np.int64)) for a in arrays),
                torch.from_numpy(rows.data),
            ]

        return work

    together(of(0), of(1))
