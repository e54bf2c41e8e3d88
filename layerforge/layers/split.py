"""Split."""

from ..kernels import Kernels
from ..layer import Layer

K = Kernels("eltwise.h")


class Split(Layer):
    """Copies of a blob for its readers, y_k = x; nets insert it wherever a blob is read more than once.

    Bottom x and every top y_k: one shape, any rank. All share one array: nothing is copied. The gradient of x is the
    sum of the tops' gradients; a top that nobody differentiates counts as 0.
    """

    tops = (1, None)
    blocks = "alike"
    shares_data = True
    adds_diffs = True

    def backward(self, bottom, top):
        (x,) = bottom
        written = [y.diff for y in top if y.needs_diff]
        if len(written) < 2:
            x.diff[...] = written[0] if written else 0
            return
        sum_of = written[:4]
        K.add_all(*sum_of, *(None,) * (4 - len(sum_of)), x.diff)
        for k in range(4, len(written), 3):
            more = written[k : k + 3]
            K.add_all(x.diff, *more, *(None,) * (3 - len(more)), x.diff)
