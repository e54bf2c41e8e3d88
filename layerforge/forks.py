"""What becomes of options that only forks of Caffe have.

They stand in the schema, so that other people's files parse. Most are honoured: a layer does what they say, or refuses
them where it would compute something else. The others are left out, and a warning says so, with the place of the first.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .errors import Place
from .schema import Definition, fork_fields

log = logging.getLogger(__name__)

# Read by a layer, a net, the solver or `layerforge.upgrade`; those that are ours, and no fork's, among them.
HONOURED = {
    "BatchNormParameter": {"scale_bias", "scale_filler", "bias_filler", "engine"},
    "ConcatParameter": {"engine"},
    "ConvolutionParameter": {"hole", "hole_h", "hole_w", "fuse_type", "relu_param", "engine"},
    "DataParameter": {"shuffle", "threads", "skip_bad", "transform_param"},
    "DropoutParameter": {"scale_train", "sample_weights_test"},
    "EltwiseParameter": {"engine"},
    "ImageDataParameter": {"threads", "cache", "skip_bad", "transform_param"},
    "InnerProductParameter": {"engine"},
    "LayerParameter": {"param_bottoms", "engine", "math_mode", "recompute"},
    "LossParameter": {
        "normalization",
        "pre_fixed_normalizer",
        "label_smoothing",
        "weight_by_label_freqs",
        "class_weighting",
        "only_care_label",
    },
    "LRNParameter": {"fuse_type", "pooling_param", "engine"},
    "NetParameter": {"engine", "math_mode", "memory"},
    "PoolingParameter": {"ceil_mode", "avg_include_pad", "torch_pooling", "engine"},
    "ReLUParameter": {"engine"},
    "SigmoidParameter": {"engine"},
    "SoftmaxParameter": {"engine"},
    "SolverParameter": {"warmup_iter", "warmup_start_lr"},
    "SPPParameter": {"engine"},
    "TanHParameter": {"engine"},
    "TransformationParameter": {"crop_h", "crop_w"},
    "WindowDataParameter": {"transform_param"},
}

SAME = "which changes nothing in what is computed"
IMAGES = "so images are only cropped, mirrored, and their mean and scale changed"
SCORES = "so a test gives the mean of each output"

# Left out, and what that means.
LEFT_OUT = {
    "ConvolutionParameter": dict.fromkeys(("conv_algos_override", "cudnn_convolution_algo_seeker"), SAME),
    "DataParameter": dict.fromkeys(("parser_threads", "cache"), SAME),
    "LayerParameter": dict.fromkeys(
        (
            "forward_type",
            "backward_type",
            "forward_math",
            "backward_math",
            "cudnn_math_override",
            "quantization_param",
            "device",
        ),
        SAME,
    ),
    "NetParameter": dict.fromkeys(
        (
            "default_forward_type",
            "default_backward_type",
            "default_forward_math",
            "default_backward_math",
            "global_grad_scale",
            "global_grad_scale_adaptive",
            "reduce_buckets",
            "default_conv_algos_override",
            "default_cudnn_math_override",
            "mem_param",
        ),
        SAME,
    ),
    "SolverParameter": {
        **dict.fromkeys(("eval_type", "ap_version", "show_per_class_result"), SCORES),
        "store_blobs_in_old_format": "so weights are saved as Caffe does",
    },
    "TransformationParameter": {
        **dict.fromkeys(
            (
                "resize_param",
                "noise_param",
                "distort_param",
                "expand_param",
                "emit_constraint",
                "random_resize_param",
                "random_aspect_ratio_param",
                "img_rand_resize_lower",
                "img_rand_resize_upper",
                "rand_resize_ratio_lower",
                "rand_resize_ratio_upper",
                "vertical_stretch_lower",
                "vertical_stretch_upper",
                "horizontal_stretch_lower",
                "horizontal_stretch_upper",
                "allow_upscale",
            ),
            IMAGES,
        ),
        "random_seed": "so random_seed of the solver decides the order of crops too",
        "use_gpu_transform": SAME,
    },
}


def warn(definitions: Iterable[Definition]) -> None:
    """Logs a warning for each option in these messages, or in one within them, that is left out: once, with its first
    place and the number of others."""
    found: dict[tuple[str, str], list[Place]] = {}
    for definition in definitions:
        for owner, name, place in fork_fields(definition):
            if name in LEFT_OUT.get(owner, {}):
                found.setdefault((owner, name), []).append(place)
    for (owner, name), (first, *others) in found.items():
        elsewhere = f" (here and in {len(others)} other place{'s' * (len(others) > 1)})" if others else ""
        log.warning(
            "%s: only forks of Caffe have %s in %s%s: it is left out, %s",
            first,
            name,
            owner,
            elsewhere,
            LEFT_OUT[owner][name],
        )
