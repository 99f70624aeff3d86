"""The quantization methods Quantry knows: one literal table, shared by the API (to refuse early) and the worker (to run)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.methods.names import Backend, CostClass, DeviceKind, Environment, Format, Method, Scheme
from quantry_core.methods.options import OptionInfo
from quantry_core.methods.schemes import CHANNEL, GroupSize

_INTEGER_SCHEMES = (Scheme.W4A16, Scheme.W8A16, Scheme.W3A16, Scheme.W2A16)
_GROUP_SIZES: tuple[GroupSize, ...] = (32, 64, 128, CHANNEL)

SYMMETRIC = OptionInfo(
    name="symmetric", default=True, words="Levels lie evenly about zero; false stores a zero point with each scale (integer schemes)."
)
DAMPING = OptionInfo(
    name="damping", default=0.01, minimum=1e-6, maximum=1.0, words="Share of the mean Hessian diagonal that is added to it."
)
ACT_ORDER = OptionInfo(
    name="activation_order",
    default="static",
    choices=("static", "none"),
    words="Static rounds columns by falling activation while groups keep their place; none takes them as they come.",
)


class MethodInfo(BaseModel):
    """One row of the method table."""

    model_config = ConfigDict(frozen=True)

    method: Method
    title: str
    paper: str = Field(description="Where the method was published.")
    backend: Backend
    environment: Environment
    format: Format = Field(description="How the result is stored.")
    schemes: tuple[Scheme, ...] = Field(description="The first one is the default.")
    calibrated_schemes: frozenset[Scheme] = Field(description="Those that need calibration text; the others look at weights alone.")
    group_sizes: tuple[GroupSize, ...] = Field(
        default=(), description="Weights that share one scale, where the scheme leaves it open: elements along the inputs, or channel."
    )
    default_group_size: GroupSize | None = None
    options: tuple[OptionInfo, ...] = ()
    fitting_cost: CostClass = Field(default=CostClass.CALIBRATED, description="Of the schemes that need calibration text.")
    cuda_schemes: frozenset[Scheme] = Field(
        default=frozenset(), description="Those that a CUDA device works on where there is one; the others leave it idle."
    )
    runs_on_cpu: bool = Field(default=True, description="Runs where there is no CUDA device, too.")
    takes_overrides: bool = Field(default=False, description="Modules may be given other schemes or group sizes, or stay at 16 bit.")
    takes_kv_cache: bool = Field(default=False, description="Scales of an fp8 KV cache may be calibrated along with it.")

    def needs_calibration(self, scheme: Scheme) -> bool:
        """Tells whether this scheme is fitted to text."""
        return scheme in self.calibrated_schemes

    def cost(self, scheme: Scheme) -> CostClass:
        """Returns how much work a scheme is."""
        return self.fitting_cost if self.needs_calibration(scheme) else CostClass.DATA_FREE

    def devices(self, scheme: Scheme) -> tuple[DeviceKind, ...]:
        """Returns what works on a scheme: one that no CUDA device works on belongs into a queue for CPUs."""
        on_cpu = (DeviceKind.CPU,) if self.runs_on_cpu else ()
        return (*on_cpu, DeviceKind.CUDA) if scheme in self.cuda_schemes else on_cpu


METHODS: dict[Method, MethodInfo] = {
    Method.RTN: MethodInfo(
        method=Method.RTN,
        title="Rounding to nearest, scales from the weights alone",
        paper="the baseline of arXiv:2210.17323",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=_INTEGER_SCHEMES,
        calibrated_schemes=frozenset(),
        group_sizes=_GROUP_SIZES,
        default_group_size=128,
        options=(SYMMETRIC,),
        takes_overrides=True,
    ),
    Method.GPTQ: MethodInfo(
        method=Method.GPTQ,
        title="GPTQ, error-compensated rounding, one layer at a time",
        paper="Frantar et al. 2022, arXiv:2210.17323",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(*_INTEGER_SCHEMES, Scheme.W4A8),
        calibrated_schemes=frozenset((*_INTEGER_SCHEMES, Scheme.W4A8)),
        cuda_schemes=frozenset((*_INTEGER_SCHEMES, Scheme.W4A8)),
        group_sizes=_GROUP_SIZES,
        default_group_size=128,
        options=(SYMMETRIC, DAMPING, ACT_ORDER),
        takes_overrides=True,
        takes_kv_cache=True,
    ),
    Method.AWQ: MethodInfo(
        method=Method.AWQ,
        title="AWQ, channels scaled by what activations make of them, then rounded",
        paper="Lin et al. 2023, arXiv:2306.00978",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.W4A16, Scheme.W8A16, Scheme.W3A16),
        calibrated_schemes=frozenset((Scheme.W4A16, Scheme.W8A16, Scheme.W3A16)),
        cuda_schemes=frozenset((Scheme.W4A16, Scheme.W8A16, Scheme.W3A16)),
        group_sizes=_GROUP_SIZES,
        default_group_size=128,
        options=(
            SYMMETRIC,
            OptionInfo(name="num_grid", default=20, minimum=4, maximum=100, words="Scaling strengths that are tried for each group."),
            OptionInfo(
                name="duo_scaling",
                default="both",
                choices=("both", "on", "off"),
                words="Scale by weights and activations (on), by activations alone (off), or whichever is better (both).",
            ),
        ),
        takes_overrides=True,
        takes_kv_cache=True,
    ),
    Method.AUTOROUND: MethodInfo(
        method=Method.AUTOROUND,
        title="AutoRound, rounding and clipping learnt by signed gradient descent",
        paper="Cheng et al. 2023, arXiv:2309.05516",
        backend=Backend.AUTO_ROUND,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.W4A16, Scheme.W3A16, Scheme.W2A16),
        calibrated_schemes=frozenset((Scheme.W4A16, Scheme.W3A16, Scheme.W2A16)),
        cuda_schemes=frozenset((Scheme.W4A16, Scheme.W3A16, Scheme.W2A16)),
        group_sizes=_GROUP_SIZES,
        default_group_size=128,
        options=(
            SYMMETRIC,
            OptionInfo(
                name="preset",
                default="default",
                choices=("light", "default", "best"),
                words="Steps of training a layer: 50, 200 or 1000; best also searches the first scales where all is at 2 bits.",
            ),
        ),
        fitting_cost=CostClass.TUNED,
        takes_overrides=True,
    ),
    Method.GPTQMODEL: MethodInfo(
        method=Method.GPTQMODEL,
        title="GPTQ by GPTQModel, the successor of AutoGPTQ, in the gptq layout",
        paper="Frantar et al. 2022, arXiv:2210.17323",
        backend=Backend.GPTQMODEL,
        environment=Environment.GPTQMODEL,
        format=Format.GPTQ,
        schemes=(Scheme.W4A16, Scheme.W8A16),
        calibrated_schemes=frozenset((Scheme.W4A16, Scheme.W8A16)),
        cuda_schemes=frozenset((Scheme.W4A16, Scheme.W8A16)),
        group_sizes=(32, 64, 128),
        default_group_size=128,
        options=(SYMMETRIC, DAMPING.model_copy(update={"maximum": 0.99})),
    ),
    Method.HQQ: MethodInfo(
        method=Method.HQQ,
        title="HQQ, zero points by half-quadratic optimisation, no data",
        paper="Badri and Shaji 2023, https://mobiusml.github.io/hqq_blog/",
        backend=Backend.HQQ,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.W4A16, Scheme.W8A16, Scheme.W3A16, Scheme.W2A16),
        calibrated_schemes=frozenset(),
        group_sizes=(32, 64, 128),
        default_group_size=64,
        options=(OptionInfo(name="iterations", default=20, minimum=1, maximum=200, words="Steps of the solver."),),
        takes_overrides=True,
    ),
    Method.SMOOTHQUANT: MethodInfo(
        method=Method.SMOOTHQUANT,
        title="SmoothQuant, outliers moved from activations into weights, then GPTQ",
        paper="Xiao et al. 2022, arXiv:2211.10438",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.W8A8,),
        calibrated_schemes=frozenset((Scheme.W8A8,)),
        cuda_schemes=frozenset((Scheme.W8A8,)),
        options=(
            OptionInfo(
                name="smoothing_strength",
                default=0.8,
                minimum=0.0,
                maximum=1.0,
                words="Share of the difficulty that goes into the weights.",
            ),
            DAMPING,
        ),
        takes_overrides=True,
        takes_kv_cache=True,
    ),
    Method.FP8: MethodInfo(
        method=Method.FP8,
        title="FP8 (E4M3) weights and activations",
        paper="Micikevicius et al. 2022, arXiv:2209.05433",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.FP8_DYNAMIC, Scheme.FP8),
        calibrated_schemes=frozenset((Scheme.FP8,)),
        cuda_schemes=frozenset((Scheme.FP8,)),
        takes_overrides=True,
        takes_kv_cache=True,
    ),
    Method.NVFP4: MethodInfo(
        method=Method.NVFP4,
        title="NVFP4, 4-bit floats in groups of 16 with FP8 scales",
        paper="NVIDIA 2025, arXiv:2509.25149",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.NVFP4A16, Scheme.NVFP4),
        calibrated_schemes=frozenset((Scheme.NVFP4,)),
        cuda_schemes=frozenset((Scheme.NVFP4,)),
        takes_overrides=True,
        takes_kv_cache=True,
    ),
    Method.MXFP4: MethodInfo(
        method=Method.MXFP4,
        title="MXFP4, 4-bit floats in groups of 32 with power-of-two scales",
        paper="Rouhani et al. 2023, arXiv:2310.10537",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.MXFP4A16, Scheme.MXFP4),
        calibrated_schemes=frozenset(),
        takes_overrides=True,
    ),
    Method.KV_CACHE: MethodInfo(
        method=Method.KV_CACHE,
        title="Scales of an fp8 KV cache, fitted to text; weights stay at 16 bit",
        paper="Micikevicius et al. 2022, arXiv:2209.05433",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        format=Format.COMPRESSED_TENSORS,
        schemes=(Scheme.KV_FP8,),
        calibrated_schemes=frozenset((Scheme.KV_FP8,)),
        cuda_schemes=frozenset((Scheme.KV_FP8,)),
        takes_kv_cache=True,
    ),
    Method.BITSANDBYTES: MethodInfo(
        method=Method.BITSANDBYTES,
        title="bitsandbytes, bases for QLoRA and for users of transformers",
        paper="Dettmers et al. 2023, arXiv:2305.14314 (NF4); 2022, arXiv:2208.07339 (INT8)",
        backend=Backend.BITSANDBYTES,
        environment=Environment.ML,
        format=Format.BITSANDBYTES,
        schemes=(Scheme.NF4, Scheme.INT8),
        calibrated_schemes=frozenset(),
        cuda_schemes=frozenset((Scheme.NF4, Scheme.INT8)),
        options=(OptionInfo(name="double_quantization", default=True, words="The scales of NF4 are quantized too."),),
    ),
    Method.GGUF: MethodInfo(
        method=Method.GGUF,
        title="GGUF, for llama.cpp and what is built on it",
        paper="https://github.com/ggml-org/ggml/blob/master/docs/gguf.md",
        backend=Backend.AUTO_ROUND,
        environment=Environment.ML,
        format=Format.GGUF,
        schemes=(Scheme.Q4_K_M, Scheme.Q5_K_M, Scheme.Q8_0),
        calibrated_schemes=frozenset(),
    ),
    Method.EETQ: MethodInfo(
        method=Method.EETQ,
        title="EETQ, int8 weights per channel, for NVIDIA GPUs",
        paper="https://github.com/NetEase-FuXi/EETQ",
        backend=Backend.EETQ,
        environment=Environment.ML,
        format=Format.EETQ,
        schemes=(Scheme.W8A16,),
        calibrated_schemes=frozenset(),
        group_sizes=(CHANNEL,),
        default_group_size=CHANNEL,
        cuda_schemes=frozenset((Scheme.W8A16,)),
        runs_on_cpu=False,
    ),
}
