"""The weights of a model as the decoding kernel takes them: addresses, in the order of decode.h."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from glam import kernels
from glam.model.feed_forward import FeedForward, GatedFeedForward
from glam.model.glam import Glam, Layer
from glam.model.moe.moe import MixtureOfExperts

TYPES = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}  # as in decode.h
PACKED = {torch.float32: 3, torch.bfloat16: 4}
LANES = 16  # as in lanes.h
TRANSPOSED_UP_TO = 2**22  # elements of an embedding whose transpose is read faster
PER_EXPERT = 4  # w_in, w_out, and in int8 the scales of their columns


def kernel_serves(model: Glam) -> bool:
    """Whether the kernel takes this model: on a CPU, in float32 or bfloat16, of which all dense
    matrices have one, and all experts one."""
    weights = list(model.parameters())
    whole = all(weight.is_contiguous() for weight in weights)
    types = [
        {w.dtype for w in weights if (w.ndim == 3) is is_expert} for is_expert in (True, False)
    ]
    return whole and kernels.supported(*weights) and all(len(each) <= 1 for each in types)


def layers_of(model: Glam) -> list[Layer]:
    """Its layers, typed."""
    return [layer for layer in model.layers if isinstance(layer, Layer)]


class KernelWeights:
    """Addresses of a model's weights: matrices in place, or packed in bfloat16 where the model
    rounds them so in its products; norms and routers in float32."""

    def __init__(self, model: Glam) -> None:
        self.model, self.dtype = model, model.embedding.w_VM.dtype
        if model.dtype == torch.bfloat16:
            self.dtype = torch.bfloat16
        self._kept = list[Tensor]()  # copies that the addresses point to
        self.table = torch.tensor(self._of_layers())
        self.experts = torch.tensor(self._of_experts())  # [L, E, PER_EXPERT]
        experts = [weight.dtype for weight in model.parameters() if weight.ndim == 3]
        of_experts = experts[0] if experts else self.dtype
        self.types = self._type(model.embedding.w_VM.dtype), self._type(of_experts)

    @property
    def loads_at(self) -> Sequence[int]:
        """Layers whose experts have to be asked for by `groups` before they can be used."""
        return ()

    def groups(self, layer: int, wanted: Sequence[int]) -> Iterator[None]:
        """Makes the experts `wanted` of a layer usable, some at a time: an item a group, until the
        next of which the addresses of its experts are in the table, and of no others."""
        raise NotImplementedError

    def _of_layers(self) -> list[int]:
        found = list[int]()
        for layer in layers_of(self.model):
            attention = layer.attention
            found.append(self._small(layer.attention_norm.scale_M))
            found += [
                self._matrix(attention.w_query_MA),
                self._matrix(attention.w_key_MA),
                self._matrix(attention.w_value_MA),
                self._matrix(attention.w_out_AM),
            ]
            found.append(self._small(layer.ffn_norm.scale_M))
            found += self._of_feed_forward(layer)
        embedding, norm = self.model.embedding.w_VM, self.model.norm.scale_M
        transposed = self._packed(embedding.t()) if embedding.numel() <= TRANSPOSED_UP_TO else 0
        return [*found, self._address(embedding, self.dtype), self._small(norm), transposed]

    def _of_feed_forward(self, layer: Layer) -> list[int]:
        ffn = layer.ffn
        if isinstance(ffn, MixtureOfExperts):
            router, moved = ffn.router, ffn.router.bias_of_choice_E
            of_choice = 0 if moved is None else self._small(moved)
            return [self._small(router.w_ME), self._small(router.bias_E), of_choice, 0, 0, 0, 0]
        assert isinstance(ffn, GatedFeedForward | FeedForward)
        gate = self._matrix(ffn.w_gate_MH) if isinstance(ffn, GatedFeedForward) else 0
        hidden = ffn.w_in_MH.shape[1]
        return [0, 0, 0, gate, self._matrix(ffn.w_in_MH), self._matrix(ffn.w_out_HM), hidden]

    def _of_experts(self) -> list[list[list[int]]]:
        """Zeros for a layer without experts."""
        nothing = [[0] * PER_EXPERT] * self.model.config.num_experts
        return [
            self._of_mixture(index, layer.ffn)
            if isinstance(layer.ffn, MixtureOfExperts)
            else nothing
            for index, layer in enumerate(layers_of(self.model))
        ]

    def _of_mixture(self, layer: int, mixture: MixtureOfExperts) -> list[list[int]]:
        w_in, w_out = mixture.experts.w_in_EMH, mixture.experts.w_out_EHM
        first_in, first_out = self._matrix(w_in), self._matrix(w_out)
        packed = w_in.dtype != self.dtype
        apart_in, apart_out = (
            (packed_size(*w.shape[1:]) if packed else w[0].numel()) * self.dtype.itemsize
            for w in (w_in, w_out)
        )
        return [
            [first_in + e * apart_in, first_out + e * apart_out, 0, 0] for e in range(len(w_in))
        ]

    def _type(self, dtype: torch.dtype) -> int:
        """What the kernel is told of matrices in `dtype`."""
        return (TYPES if dtype == self.dtype else PACKED)[self.dtype]

    def _matrix(self, weight: Tensor) -> int:
        """The address of a matrix or of a stack of them: a copy is packed."""
        in_place = weight.dtype == self.dtype
        return self._address(weight, self.dtype) if in_place else self._packed(weight)

    def _packed(self, weight: Tensor) -> int:
        """The address of a packed copy."""
        self._kept.append(pack(weight.detach().float(), self.dtype))
        return self._kept[-1].data_ptr()

    def _small(self, weight: Tensor) -> int:
        return self._address(weight, torch.float32)

    def _address(self, weight: Tensor, dtype: torch.dtype) -> int:
        self._kept.append(weight.detach().to(dtype).contiguous())
        return self._kept[-1].data_ptr()


def packed_size(rows: int, columns: int) -> int:
    """Elements of a packed matrix."""
    return -(-rows // 2) * 2 * -(-columns // LANES) * LANES


def pack(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A matrix in float32, or a stack of them, in the order in which the kernel reads it
    (packed.inc)."""
    (rows, columns), (row, column) = weight.shape[-2:], weight.stride()[-2:]
    count = weight.numel() // (rows * columns)
    packed = torch.empty(count * packed_size(rows, columns), dtype=dtype)
    whole = weight if weight.is_contiguous() else weight.t()  # a transpose
    kernels.call("pack_weights", packed, whole, count, rows, columns, row, column)
    return packed
