"""Eq. 1-8 written out as the paper states them: no views, no shared order, one small convolution for each group.

The functions take the parameters of a `CTModule` and compute what they mean, channels in their natural order:
channel c = i_1 + C_1 * (i_2 + C_2 * (i_3 + ...)), with C_1 innermost.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional as F


def order_along(sizes, k, channels):
    """Natural channels in the order of sub-operation k (from 0): neighbours differ in i_k alone."""
    if len(set(sizes)) == 1 and sizes[0] == channels:
        return list(range(channels))
    axes = [*range(k - 1, -1, -1), *range(len(sizes) - 1, k, -1), k]  # outermost to innermost
    strides = [1]
    for size in sizes[:-1]:
        strides.append(strides[-1] * size)
    return [
        sum(index * strides[axis] for axis, index in zip(axes, indices, strict=True))
        for indices in itertools.product(*(range(sizes[axis]) for axis in axes))
    ]


def weight_5d(conv, kernel):
    return conv.weight.reshape(*conv.weight.shape[:2], *kernel)


def tensor_separable_conv(x, ts_conv, in_order, out_order):
    """Eq. 2-4: for each fixed value of the other indices, C_k channels interact over t x h x w."""
    weight = weight_5d(ts_conv.conv, ts_conv.kernel)
    groups = ts_conv.conv.groups
    out = x.new_zeros(x.shape[0], len(out_order), *x.shape[2:])
    for g in range(groups):
        ins = in_order[g * len(in_order) // groups : (g + 1) * len(in_order) // groups]
        outs = out_order[g * len(out_order) // groups : (g + 1) * len(out_order) // groups]
        w = weight[g * len(outs) : (g + 1) * len(outs)]
        out[:, outs] = F.conv3d(x[:, ins], w, padding=tuple(e // 2 for e in ts_conv.kernel))
    return out


def batch_norm(x, bn, order):
    out = torch.zeros_like(x)
    mean, var = (None, None) if bn.training else (bn.running_mean, bn.running_var)
    out[:, order] = F.batch_norm(x[:, order], mean, var, bn.weight, bn.bias, training=bn.training, eps=bn.eps)
    return out


def conv_bn_relu(x, unit, in_order, out_order):
    return batch_norm(tensor_separable_conv(x, unit.conv, in_order, out_order), unit.bn, out_order).relu()


def attention(pooled, excitation, order):
    """Sigmoid(TSConv(ReLU(BN(TSConv(pooled)))))."""
    reduced = list(range(excitation.expand.conv.in_channels))
    hidden = conv_bn_relu(pooled, excitation.reduce, order, reduced)
    return torch.sigmoid(tensor_separable_conv(hidden, excitation.expand, reduced, order))


def sub_operation(x, op, in_order, order):
    t_pool = lambda y: y.mean(2, keepdim=True)  # noqa: E731
    s_pool = lambda y: y.mean((3, 4), keepdim=True)  # noqa: E731

    def excite(y, excitation, pool):
        if isinstance(excitation, nn.Identity):
            return y
        if hasattr(excitation, "attention"):  # squeeze-and-excitation acts on all channels in the module's order
            first, _, second, _ = excitation.attention
            z = y.mean((2, 3, 4))[:, order]
            a = torch.sigmoid(F.linear(F.linear(z, first.weight, first.bias).relu(), second.weight, second.bias))
            gate = torch.zeros_like(a)
            gate[:, order] = a
            return y * gate[:, :, None, None, None]
        return y * attention(pool(y), excitation, order)

    if op.connection == "coupling":
        r = conv_bn_relu(x, op.coupled, in_order, order)
        r = excite(excite(r, op.excite_spatial, t_pool), op.excite_temporal, s_pool)
    else:
        u = excite(conv_bn_relu(x, op.spatial, in_order, order), op.excite_spatial, t_pool)  # Eq. 3, 6
        if op.connection == "parallel":
            v = excite(conv_bn_relu(x, op.temporal, in_order, order), op.excite_temporal, s_pool)  # Eq. 4, 7
            r = u + v  # Eq. 5
        else:
            r = excite(conv_bn_relu(u, op.temporal, order, order), op.excite_temporal, s_pool)
    return excite(r, op.excite_channel, s_pool)  # Eq. 8


def ct_module(module, x):
    """The whole CT-Module, its output in the natural order."""
    c, in_order = module.channels, list(range(x.shape[1]))
    for k, op in enumerate(module.sub_operations):
        order = order_along(module.sizes, k, c)
        if k > 0 and len(module.pointwise) > 0:
            # the PWConv reads the order of sub-operation k - 1 and writes the order of k
            x = conv_bn_relu(x, module.pointwise[k - 1], order_along(module.sizes, k - 1, c), order)
        x = sub_operation(x, op, in_order if k == 0 else order, order)
    return x
