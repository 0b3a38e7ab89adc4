# %% [markdown]
# # 08 · ControlNet: not only what, but where
#
# **After this lesson you can**
# - add a new input to a trained network without disturbing it, and derive by hand why a layer that
#   starts at zero learns all the same;
# - build a ControlNet (a locked network, a trainable copy of its encoder, zero convolutions between
#   them) and train it in seconds;
# - steer the sampler with an outline and a label at once, set the strength of each, and measure how
#   well the result keeps to the outline.
#
# **Time:** about 75 minutes. **Needs:** lessons 03, 04 and 07, and the chain rule. Lesson 06 takes part
# in the closing figure.

# %%
import copy

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import plots
from course.checks import check, hint
from course.classifier_free_guidance import (
    ConditionalUNet, NetworkWithLabel, cfg_eps_model, drop_labels
)
from course.controlnet import DECODER, Control, load_base, load_controlnet
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule
from course.sampling import EpsModel, as_eps_model, sample
from course.training import TrainState, batch_indices, train, v_loss

plots.set_style()

# %% [markdown]
# ## What a label cannot say
#
# Lesson 07 gave us a network that draws the digit we ask for. Here are eight fives, all from the same
# label, each from noise of its own. Look at how much they differ: slant, size, thickness, the length of
# the bar on top. In none of this did we have a say.

# %%
base = load_base()
alpha_bars = alpha_bars_from_betas(cosine_schedule())
generator = torch.Generator().manual_seed(0)

noise = torch.randn(8, 1, 28, 28, generator=generator)
fives = torch.full((8,), 5)
*_, x0 = sample(cfg_eps_model(base, fives, base.null, alpha_bars, 2.0), noise, alpha_bars, steps=15)
plots.show(x0, title="“a five, please”");
# %% [markdown]
# Below we shall often look at rows of digits, so here is a helper that writes a name before each row.

# %%
def show_rows(rows: dict[str, Tensor], size: float = 0.7) -> plt.Figure:
    """A figure with one row of images for each name."""
    columns = len(next(iter(rows.values())))
    figure = plots.show(torch.cat(list(rows.values())), columns=columns, size=size)
    for axis, name in zip(figure.axes[::columns], rows, strict=True):
        axis.text(-0.15, 0.5, name, transform=axis.transAxes, ha="right", va="center", fontsize=9)
    return figure


# %% [markdown]
# A label says *what*. Often we know *where*: here is an outline, fill it. For pictures of the world the
# same wish reads "in this pose", "with these walls and windows", "along these edges". Words are a poor
# tool for that, and an image is a good one. So we want a network with one more input, an image $c$ that
# we call the **condition**.
#
# We could train a new network from nothing with $c$ as an extra channel. It would need all the data and
# all the hours that the old one cost. We could also go on training the old network with the extra
# channel. But with little data it would soon forget what it knew. **ControlNet** (Zhang, Rao & Agrawala
# 2023) does neither: it leaves the old network exactly as it is, and puts a helper beside it.
#
# We begin with the condition itself.
#
# ## The condition: edges
#
# We need pairs of a digit and a condition that belongs to it, and nobody should have to draw them. An
# *edge detector* makes them from the digits we have. For photographs one takes Canny's. For white ink on
# black, this will do: call **ink** what is brighter than a threshold. A pixel is an **edge** if it is no
# ink itself but one of its eight neighbours is. By hand, with ink `#` and edges `o`:
#
# ```
# . . . . . . .            . . . . . . .
# . . . . . . .            . o o o o . .
# . . # # . . .            . o # # o o .
# . . . # # . .     →      . o o # # o .
# . . . . . . .            . . o o o o .
# . . . . . . .            . . . . . . .
# ```
#
# "One of its neighbours" sounds like a loop over eight shifts, but there is a layer for it. A **max
# pooling** with a 3 × 3 window and stride 1 gives each pixel the largest value around it. On a map of 0
# and 1 that is 1 wherever ink is at most one step away: the ink, grown by a pixel in all directions.
#
# ### Exercise: the outline

# %% exercise="controlnet.edges" lines=2
# %%
edges = check(edges)

# %% [markdown]
# Stuck? `hint(edges)` says a little more with each call.
#
# The figure shows test digits above and their outlines below. The lines should be thin and closed, and
# the ink itself should be gone: what remains is like a page of a colouring book.

# %%
digits, labels = mnist("test")
digits, labels = digits[:10], labels[:10]
wanted = edges(digits)
show_rows({"digit": digits, "edges": 2 * wanted - 1});
# %% [markdown]
# ## How well is an outline kept?
#
# Before we build anything, let us decide how we shall judge it. Take the drawn digit, find *its* edges,
# and compare them with the edges that were wanted. Two questions can be asked:
#
# - **precision** $P$: which share of the edges that we found were wanted?
# - **recall** $R$: which share of the edges that were wanted did we find?
#
# Each alone is easily cheated. A single right pixel has $P = 1$; a map that is all edges has $R = 1$. Their
# harmonic mean is large only if both are:
#
# $$F_1 = \frac{2}{1/P + 1/R} = \frac{2PR}{P+R}.$$
#
# There is one more question: what is "the same edge"? An edge that is off by a single pixel is no fault
# that anybody would see, and yet a comparison pixel by pixel counts it as wrong twice, found where it was
# not wanted and missing where it was. So we forgive shifts of up to `tolerance` pixels: a found edge
# counts as wanted when a wanted one is *near* it. Near is, once more, a max pooling:

# %% inline="controlnet.share_near"
# %% [markdown]
# Five pixels in a row, by hand. An edge was found at place 1 and one at place 4; one was wanted at
# place 2. With a tolerance of 1, one of the two found edges is near a wanted one, so $P = \frac12$, and the
# wanted edge is near a found one, so $R = 1$. Then $F_1 = 2\cdot\frac12\cdot 1/(\frac12 + 1) = \frac23$.

# %%
found_row = torch.tensor([0.0, 1, 0, 0, 1]).reshape(1, 1, 1, 5)
wanted_row = torch.tensor([0.0, 0, 1, 0, 0]).reshape(1, 1, 1, 5)
for tolerance in (0, 1):
    precision = share_near(found_row, wanted_row, tolerance).item()
    recall = share_near(wanted_row, found_row, tolerance).item()
    print(f"tolerance {tolerance}: P = {precision:.2f}, R = {recall:.2f}")

# %% [markdown]
# ### Exercise: F1 with a tolerance
#
# One number for each pair of maps. Where both $P$ and $R$ are 0, so is $F_1$: mind the division.

# %% exercise="controlnet.edge_f1" lines=3
# %%
edge_f1 = check(edge_f1)

# %% [markdown]
# A number needs a yardstick. On the left, 300 outlines are compared with themselves, shifted sideways.
# Watch the two curves part: without tolerance a shift of one pixel, which you would not notice, costs
# most of the score. On the right, each outline is compared with that of *another* digit of the same class,
# and with one of another class. This is the score of somebody who does not look at the outline at all, and
# it is far above 0, since digits are all written in the middle, and are about as large as each other. So
# with a tolerance of one pixel, **0.7 or so is luck and nothing to be proud of.**

# %%
some, classes = (x[:300] for x in mnist("test"))
outlines = edges(some)
same, other = [], []
for i in range(1, 6):
    scores, alike = edge_f1(outlines, outlines.roll(i, dims=0)), classes == classes.roll(i)
    same.append(scores[alike])
    other.append(scores[~alike])

figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
shifts = range(6)
for tolerance in (0, 1):
    curve = [edge_f1(outlines, outlines.roll(s, dims=3), tolerance).mean() for s in shifts]
    left.plot(shifts, curve, "o-", label=f"tolerance {tolerance}")
left.set(xlabel="shifted by … pixels", ylabel="mean F1", ylim=(0, 1.05))
left.legend()
right.hist([torch.cat(same), torch.cat(other)], bins=15, density=True,
           label=["same class", "another class"])
right.set(xlabel="F1 with another digit, tolerance 1", ylabel="density", xlim=(0, 1.02))
right.legend();
# %% [markdown]
# ## Zero convolution
#
# Now to the network. Whatever we attach to a trained network begins with random weights, and random
# weights give noise. The noise runs through everything behind it, the loss jumps up, and the first few
# hundred steps of training do harm before they do good. The way out is as simple as it is surprising: let
# what we attach give **exactly zero** at the beginning. The paper calls the layer that sees to it a
# **zero convolution**: a convolution of size 1 × 1, whose weight and bias both start at zero. At each
# place it mixes the channels,
#
# $$\text{out}_o = \sum_i w_{oi}\,x_i + b_o .$$
#
# ### Exercise: the layer

# %% exercise="controlnet.zero_conv" lines=4
# %%
zero_conv = check(zero_conv)

# %% [markdown]
# ### Does it learn at all?
#
# It starts at zero, it gives zero. One might fear that it stays there: "all weights zero" is what every
# course on neural networks warns us of. So let us do what we always do when we are not sure, and
# differentiate.
#
# One pixel and one channel first: $\text{out} = w x + b$. Let $g = \partial L/\partial\,\text{out}$ be the
# gradient that arrives from the loss. The chain rule says
#
# $$\frac{\partial L}{\partial w} = g\,x, \qquad
# \frac{\partial L}{\partial b} = g, \qquad
# \frac{\partial L}{\partial x} = g\,w .$$
#
# There is the answer. The gradient of $w$ contains $x$ and $g$, and **not $w$**. With $w = 0$ it is as
# large as it would be with any other $w$. What *does* contain $w$ is the gradient that is handed on to
# $x$: while $w = 0$, whatever lies *before* the zero convolution gets nothing. After one step $w$ is
# $-\eta\,g\,x$, with the learning rate $\eta$. That is no longer zero, and from then on the layers before
# it learn as well. (The course's warning is about *hidden* layers that are zero on *both* sides, where
# $x$ and $g$ vanish together. More of this below.)
#
# With channels and places, a weight $w_{oi}$ is used at every place of every image, and its gradient is the
# sum over its uses. An input $x_i$ goes to every output $o$, and its gradient is the sum over them:
#
# $$\frac{\partial L}{\partial w_{oi}} = \sum_{b,h,w} g_{bohw}\,x_{bihw}, \qquad
# \frac{\partial L}{\partial b_o} = \sum_{b,h,w} g_{bohw}, \qquad
# \frac{\partial L}{\partial x_{bihw}} = \sum_o g_{bohw}\,w_{oi} .$$
#
# ### Exercise: the three gradients
#
# No autograd here; your formulas will be compared with it. The weight has the shape `(o, i, 1, 1)`.

# %% exercise="controlnet.zero_conv_gradient" lines=4
# %%
zero_conv_gradient = check(zero_conv_gradient)

# %% [markdown]
# Is that what PyTorch computes? A zero convolution from 3 to 5 channels, with an arbitrary gradient
# arriving:

# %%
layer = zero_conv(3, 5)
x = torch.randn(2, 3, 4, 4, generator=generator, requires_grad=True)
grad_out = torch.randn(2, 5, 4, 4, generator=generator)
layer(x).backward(grad_out)

by_hand = zero_conv_gradient(x.detach(), layer.weight.detach(), grad_out)
for name, mine, theirs in zip(["weight", "bias", "x"], by_hand, [layer.weight, layer.bias, x], strict=True):
    agree = torch.allclose(mine, theirs.grad, atol=1e-5)
    print(f"{name:6}: the same as autograd's: {agree}, all zero: {bool((mine == 0).all())}")

# %% [markdown]
# ### Three numbers, three steps
#
# Now a layer before it. A feature $h = a\,x$ is made by a weight $a = 2$ that has been trained already,
# and leaves through a weight $w = 0$. The result $w\,h$ should become 1. With $L = \frac12(w\,a\,x -
# 1)^2$ and $x = 1$, what arrives is $g = w a - 1$, and the gradients are $\partial L/\partial w = g\,a$
# and $\partial L/\partial a = g\,w$. The learning rate is 0.1. Look at the last column: $a$ does not move
# in the first line, and in that line only.

# %%
a, w, rate = 2.0, 0.0, 0.1
print("step   out  w moves by  a moves by")
for step in range(4):
    g = w * a - 1
    move_w, move_a = -rate * g * a, -rate * g * w
    print(f"{step:4} {w * a:5.2f} {move_w:11.3f} {move_a:11.3f}")
    w, a = w + move_w, a + move_a

# %% [markdown]
# <details><summary><b>Think:</b> why does the bias have to start at zero too? And what happens to two zero
# convolutions in a row?</summary>
#
# A bias that is not zero adds a constant to every feature: the network behind is disturbed from the first
# step on, by something that has not learned anything. Two in a row, $\text{out} = w_2 w_1 x$, have the
# gradients $g\,w_1 x$ and $g\,w_2 x$, both 0: such a pair never wakes up. A zero convolution needs
# something on its input side that is *not* zero. Keep this in mind for when we count the zero
# convolutions of a ControlNet: there is one at its entry, and one at each of its exits.
# </details>
#
# ## A locked block and a trainable copy
#
# Here is the whole idea for one block of a network, as in the lecture. On the left, a trained block with
# weights $\Theta$ turns $x$ into $y = \mathcal F(x; \Theta)$. On the right, the block is **locked**: its
# weights will never change again. Beside it stands a **trainable copy** with weights $\Theta_c$, which
# start as copies of $\Theta$. The condition $c$ enters the copy through one zero convolution $\mathcal
# Z$, and what the copy makes of it leaves through another:
#
# $$y_c = \mathcal F(x; \Theta) + \mathcal Z\big(\,\mathcal F(x + \mathcal Z(c; \Theta_{z1});\; \Theta_c)\,;\; \Theta_{z2}\big).$$

# %%
def box(axis: plt.Axes, x: float, y: float, text: str, colour: str) -> None:
    """A labelled block of a diagram, by its centre."""
    style = {"boxstyle": "round,pad=0.45", "facecolor": colour, "edgecolor": "black"}
    axis.text(x, y, text, ha="center", va="center", fontsize=9, bbox=style)


def path(axis: plt.Axes, *points: tuple[float, float]) -> None:
    """A line through some points, with a head at its end."""
    xs, ys = zip(*points, strict=True)
    axis.plot(xs[:-1], ys[:-1], color="black", linewidth=1)
    axis.annotate("", points[-1], points[-2], arrowprops={"arrowstyle": "-|>", "color": "black"})


figure, (before, after) = plt.subplots(1, 2, figsize=(8, 4.6), width_ratios=[1, 2.2], layout="constrained")
for axis, title, right in [(before, "(a) before", 1), (after, "(b) after: ControlNet", 3.4)]:
    axis.set(title=title, xlim=(-1, right), ylim=(-0.6, 5.8))
    axis.axis("off")
    path(axis, (0, 4.95), (0, 3.1))
box(before, 0, 5.2, "$x$", "white"), path(before, (0, 2.5), (0, 0.3))
box(before, 0, 2.8, "neural network\nblock", "#DDDDDD"), box(before, 0, 0.1, "$y$", "white")

path(after, (0.1, 5.2), (1.5, 5.2), (1.5, 4.4)), path(after, (2.9, 5), (2.9, 4.4))
path(after, (2.4, 4.25), (1.6, 4.25)), path(after, (1.5, 4.1), (1.5, 3)), path(after, (1.5, 2.6), (1.5, 1.95))
path(after, (1.5, 1.6), (1.5, 1.1), (0.1, 1.1)), path(after, (0, 2.5), (0, 1.25)), path(after, (0, 1), (0, 0.3))
for x, y, text in [(0, 5.2, "$x$"), (2.9, 5.2, "condition $c$"), (1.5, 4.25, "+"), (0, 1.1, "+"), (0, 0.1, "$y_c$")]:
    box(after, x, y, text, "white")
box(after, 0, 2.8, "neural network\nblock (locked)", "#DDDDDD"), box(after, 1.5, 2.8, "trainable copy", "#9FD3F0")
box(after, 2.9, 4.25, "zero convolution", "#F7D9A0"), box(after, 1.5, 1.75, "zero convolution", "#F7D9A0");
# %% [markdown]
# Both zero convolutions give 0 at the start, so at the start $y_c = y$: not nearly, but bit for bit. And
# the copy is no beginner: it already knows what digits (or lions) are made of, and must only learn to
# look at $c$.
#
# <details><summary><b>Think:</b> two zero convolutions, one behind the other. Did the last box not say that
# such a pair never wakes up?</summary>
#
# They are not in a row. Between them stands the copy, and $x$ enters it too. So what reaches the exit is
# $\mathcal F(x; \Theta_c)$, which is not zero although the entry is. The exit learns first. Once it is no
# longer zero, gradients pass it, and the copy and the entry begin to learn. If the copy were given only
# $c$ and not $x$, there would be nothing at the exit to learn from but what the copy makes of an empty
# input.
# </details>
#
# ### Exercise: the lock
#
# A locked network must not change in any way. Two switches do that. `requires_grad` says whether a
# parameter asks for a gradient. And in **eval mode**, layers such as batch norm and dropout stop doing
# what they do during training (batch norm would go on updating its averages, which no optimizer is
# needed for). Our UNet has neither, but the function should work for networks that do.

# %% exercise="controlnet.freeze" lines=1
# %%
freeze = check(freeze)

# %% [markdown]
# ### Exercise: the copy
#
# Which blocks are copied? The UNet has a way down (stem, `down1`, `shrink`, `down2`, attention), a
# middle, and a way up. ControlNet copies **the way down and the middle**, with the embeddings of time and
# label. That is where an image is understood. The way up stays single; it receives the copy's advice.
#
# One trap lies here: a copy of a locked network is a locked network.

# %%
print("not copied:", ", ".join(DECODER))

# %% exercise="controlnet.trainable_copy" lines=4
# %%
trainable_copy = check(trainable_copy)

# %% [markdown]
# ## ControlNet on our UNet
#
# The figure above is of one block. In the UNet, the "block" is the whole way down. It hands three things
# to the way up: a skip connection at each resolution, and the output of the middle. So there are three
# exits:
#
# | what the base's `encode` gives | shape for a digit | the copy's exit |
# |---|---|---|
# | first skip, after `down1` | 14 × 14 | `out1` |
# | second skip, after the attention | 7 × 7 | `out2` |
# | the middle's output | 7 × 7 | `out_middle` |
#
# (In Stable Diffusion the same count gives twelve skips and the middle: thirteen exits.)
#
# And the entry? The condition has 28 × 28 pixels, the features after the stem 14 × 14. A few small
# convolutions bring it to that size and number of channels, with a zero convolution as their last layer.
# The result is added right after the copy's stem. It is *not* added to $x_t$: the image is noise of a known
# size, and a network that was trained on such noise should get to see it undisturbed.
#
# ### Exercise: the forward pass
#
# `__init__` is given. Write `forward`: it follows the base's `encode` line by line, and adds the embedded
# condition at the right moment.

# %% exercise="controlnet.ControlNet" stub="forward" lines=6
# %%
ControlNet = check(ControlNet)

# %% [markdown]
# ### Exercise: base and control together
#
# `controlled` returns a function with the base's own signature, `(xt, t, y)`, so that everything from
# lesson 07 goes on working. It runs the base's `encode`, adds what the ControlNet gives times a
# **strength**, and lets the base `decode` the sums. The strength is not trained. It is a knob for whoever
# samples: 0 is the base, 1 is what the training saw.
#
# There is a detail. Guidance sends each image through the network twice, as one batch $[x, x]$ of
# twice the size. There is still only one condition for each image, so the conditions are repeated in the
# same way, $[c, c]$. This helper does it:

# %% inline="controlnet.one_each"
# %% exercise="controlnet.controlled" lines=8
# %%
controlled = check(controlled)

# %% [markdown]
# Now the promise can be tested. An untrained ControlNet must give *exactly* what the base gives: we
# ask for equality of every bit, and not for a small difference.

# %%
control = ControlNet(base)
xt = torch.randn(10, 1, 28, 28, generator=generator)
t, y = torch.arange(10) * 100, labels

with torch.no_grad():
    alone, untrained = base(xt, t, y), controlled(base, control, wanted)(xt, t, y)
print("untrained, it is the base bit for bit:", torch.equal(alone, untrained))
count = sum(p.numel() for p in control.parameters()) / sum(p.numel() for p in base.parameters())
print(f"the ControlNet has {count:.0%} as many parameters as the base")

# %% [markdown]
# <details><summary><b>Think:</b> the base is locked. May we run it under <code>torch.no_grad()</code>, to save
# memory?</summary>
#
# Its way down: yes, and PyTorch does so of its own accord, because nothing there asks for a gradient. Its
# way up: no! The loss sits at the end of the way up. To reach the ControlNet, gradients have to pass
# *through* the locked layers, which hand them on and keep none for themselves. That is also why a
# ControlNet costs little to train, although half a network is added: the paper reports about 23 % more
# memory and 34 % more time a step than for training Stable Diffusion itself, without one.
# </details>
#
# ## Training
#
# The loss is the one that the base was trained with, and nothing is added to it. Our base predicts $v$, so
#
# $$L = \mathbb E_{x_0,\,t,\,\varepsilon}\; \big\lVert\, v - v_{\Theta,\Theta_c}(x_t, t, y, c)\,\big\rVert^2,
# \qquad x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon .$$
#
# Nowhere does it say "keep to the outline". It need not. The outline *belongs* to $x_0$, so whoever reads
# it knows more about $x_0$ and has a smaller loss. It is worth reading most where the noise is strong,
# because there $x_t$ itself tells so little.
#
# ### Exercise: the loss
#
# `v_loss(network, x0, t, eps, alpha_bars)` of lesson 03 does the rest, if it is given a network of
# $(x_t, t)$.

# %% exercise="controlnet.control_loss" lines=2
# %%
control_loss = check(control_loss)

# %% [markdown]
# ### Who learns when?
#
# Take three steps of plain gradient descent and look at who has a gradient. From our derivation you can
# say beforehand what will happen. The exits must come first, because only they have something that is not
# zero on both sides. Then the copy and the zero convolution at the entry, once the exits let gradients
# through. And last the layers that embed the condition, once the entry lets gradients through.

# %%
images, classes = mnist("train")
eps = torch.randn(4, 1, 28, 28, generator=generator)
t = torch.tensor([200, 400, 600, 800])
parts = {
    "exits": nn.ModuleList([control.out1, control.out2, control.out_middle]),
    "copy": control.twin,
    "entry": control.embed_condition[-1],
    "embedding": control.embed_condition[:-1],
}
descent = torch.optim.SGD(control.parameters(), lr=0.1)
for step in range(3):
    descent.zero_grad()
    loss = control_loss(control, base, images[:4], t, eps, classes[:4], edges(images[:4]), alpha_bars)
    loss.backward()
    moving = [name for name, part in parts.items() if any((p.grad != 0).any() for p in part.parameters())]
    print(f"step {step}: gradients reach {', '.join(moving)}")
    descent.step()

# %% [markdown]
# ### Sudden convergence
#
# Now the real training, a short one. We use the loop of lesson 03, with small batches. Half of the labels
# are dropped (the paper drops half of its prompts too): a label is a tempting hint, and without it the
# network *has to* read the outline. On the way we stop a few times and draw the ten test digits from
# their outlines, without a label and always from the same noise.

# %%
before = {name: x.clone() for name, x in base.state_dict().items()}
probe = torch.randn(10, 1, 28, 28, generator=generator)
no_label = torch.full((10,), base.null)


def draw_pair(step: int, generator: torch.Generator, pairs: int = 60_000) -> tuple[Tensor, ...]:
    """Sixteen digits with noise, a label that is often dropped, and an outline."""
    i = batch_indices(pairs, 16, step)
    x0, t = images[i], torch.randint(1000, (16,), generator=generator)
    eps = torch.randn(x0.shape, generator=generator)
    y = drop_labels(classes[i], torch.rand(16, generator=generator), 0.5, base.null)
    return x0, t, eps, y, edges(x0)


def loss_fn(control: nn.Module, *drawn: Tensor) -> Tensor:
    return control_loss(control, base, *drawn, alpha_bars)


def look(control: nn.Module) -> Tensor:
    """The ten test digits, drawn from their outlines alone."""
    network = controlled(base, control, wanted)
    eps_model = as_eps_model(lambda xt, t: network(xt, t, no_label), alpha_bars)
    *_, x0 = sample(eps_model, probe, alpha_bars, steps=10)
    return x0


# %%
torch.manual_seed(0)
state = TrainState.start(ControlNet(base).to(memory_format=torch.channels_last))
stops, losses = [25, 50, 60, 70, 80, 100, 150], []
looks = {0: look(state.model)}
for step in train(state, draw_pair, loss_fn, steps=150, lr=3e-3):
    losses.append(step.loss)
    if step.step in stops:
        looks[step.step] = look(state.model)

# %% [markdown]
# Each row below is a moment of the training; the top row is what was wanted. For the first rows nothing
# seems to happen: the same digits as without control, step after step. Then, within a few dozen steps, they
# jump into their outlines.

# %%
show_rows({"wanted": 2 * wanted - 1, **{f"step {k}": x0 for k, x0 in looks.items()}}, size=0.6);
# %% [markdown]
# The same in numbers. On the left the F1 of the rows above, which should look like a staircase with a
# single step. On the right the loss, averaged over 15 steps: after a flat beginning it falls too, but so
# noisily that you would hardly believe in a jump. Who watches only the loss may give up too early.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
left.plot(list(looks), [edge_f1(edges(x0), wanted).mean() for x0 in looks.values()], "o-")
left.set(xlabel="training step", ylabel="edge F1 within one pixel", ylim=(0.65, 1.02))
smooth = F.avg_pool1d(torch.tensor(losses)[None], 15, stride=1)[0]
right.plot(range(8, 8 + len(smooth)), smooth)
right.set(xlabel="training step", ylabel="loss", ylim=(0, None));
# %% [markdown]
# The authors call this the **sudden convergence phenomenon**: their ControlNet ignored its condition for
# thousands of steps and then obeyed from one check to the next, in their example around step 6,133. Our
# network is small and our task is easy, so it takes fewer.
#
# Why is it sudden? What $c$ changes in the output is, roughly, entry times exit, a *product* of two
# numbers that both start at zero. Look at the simplest such case: learn $u v = 1$ from $u = 0$ and $v =
# 0.01$ (the exit, having something to feed on, has moved a little). Each gradient is proportional to the
# *other* number,
#
# $$\frac{\partial L}{\partial u} = (uv - 1)\,v, \qquad \frac{\partial L}{\partial v} = (uv-1)\,u,$$
#
# so for a long time both are tiny, although they grow: as long as $uv$ is small, a step with the learning
# rate $\eta$ adds $\eta v$ to $u$ and $\eta u$ to $v$, which multiplies $u + v$ by $1 + \eta$.
# Exponential growth looks like nothing at all until it looks like a wall. The figure shows it, and for
# comparison a single weight that learns $w = 1$ at the same rate.

# %%
u, v, w, rate = 0.0, 0.01, 0.0, 0.05
product, single = [], []
for _ in range(200):
    u, v = u - rate * (u * v - 1) * v, v - rate * (u * v - 1) * u
    w = w - rate * (w - 1)
    product.append(u * v)
    single.append(w)

figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.plot(product, label="$uv$: two weights in a row")
axis.plot(single, label="$w$: one weight")
axis.set(xlabel="step of gradient descent", ylabel="output (target 1)")
axis.legend();
# %% [markdown]
# (Saxe et al., 2014, solve this exactly for deep linear networks: plateaus, then jumps.)
#
# And the locked network? It has taken part in every one of these steps.

# %%
same = all(torch.equal(x, before[name]) for name, x in base.state_dict().items())
print("after training, the base is what it was, bit for bit:", same)

# %% [markdown]
# ### How many pairs does it take?
#
# The lecture shows a lion from edges, learned from 1,000, from 50,000 and from 3 million pairs: all three
# are lions, the last is the finest. At our size this is 60,000 pairs and, to be mean, **ten**: the first
# ten training digits, again and again, for the same 150 steps. Compare the last two rows.

# %%
def draw_of_ten(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    return draw_pair(step, generator, pairs=10)


torch.manual_seed(0)
few = TrainState.start(ControlNet(base).to(memory_format=torch.channels_last))
for _ in train(few, draw_of_ten, loss_fn, steps=150, lr=3e-3):
    pass

# %%
show_rows({"wanted": 2 * wanted - 1, "10 pairs": look(few.model), "60,000 pairs": looks[150]});
# %% [markdown]
# Ten digits are enough to learn "ink goes inside the line", also for outlines that were never among them. A
# network trained from nothing on ten digits could do no more than recite them. This one need not learn
# what a digit is; the locked base knows that, and cannot forget it. Longer runs, with 10, 100, 1,000
# and 60,000 pairs, are measured by `python -m tests.benchmarks control-pairs`.
#
# <details><summary><b>Think:</b> what would more pairs buy, then?</summary>
#
# Detail and rare cases. The fewer the pairs, the sooner the copy knows them by heart: its training loss
# goes on falling, and new outlines gain nothing from it. How many pairs are few depends on how much there
# is to learn. An outline nearly *is* the digit, and the rule is the same at every place of every
# image. A pose or a depth map leaves much more open: there is more to learn, and more pairs are needed.
# </details>
#
# ## Label and outline at once
#
# The shipped ControlNet was trained in the same way, for longer and with larger batches (`python -m
# course train mnist-controlnet`). Only the copy and the zero convolutions are stored. They fit one base
# and no other, so their card names that base by its checksum, and `load_controlnet` refuses another.

# %%
base, control = load_controlnet()

# %% [markdown]
# ### Exercise: one noise under both
#
# Everything comes together. `controlled` gives a network $(x_t, t, y)$, and `cfg_eps_model` of lesson 07
# wants one:
#
# $$\tilde\varepsilon = \gamma\,\varepsilon(x_t, t, y, c) + (1-\gamma)\,\varepsilon(x_t, t, \varnothing, c).$$
#
# Note that $c$ stands on *both* sides. Then their difference, which guidance amplifies, is due to the
# label alone. If the side without the label had no outline either, guidance would amplify the outline
# together with the label: with γ = 2, a push of twice the size. How hard the outline pushes would then
# depend on a knob that is meant for the label. We have another one for it, the strength.

# %% exercise="controlnet.controlled_eps_model" lines=2
# %%
controlled_eps_model = check(controlled_eps_model)

# %%
def draw(wanted: Tensor, y: Tensor, scale: float = 2.0, strength: float = 1.0, steps: int = 12) -> Tensor:
    """A digit for each outline and label, always from the same noise."""
    noise = torch.randn(len(y), 1, 28, 28, generator=torch.Generator().manual_seed(3))
    eps_model = controlled_eps_model(base, control, wanted, y, alpha_bars, scale, strength)
    *_, x0 = sample(eps_model, noise, alpha_bars, steps=steps)
    return x0


# %% [markdown]
# From top to bottom: outline, sample, and the original that the outline was taken from. The last two rows
# should be alike in shape. They are *not* equal: grey tones and the thickness within a pixel are the
# sampler's own, since the outline does not say them.

# %%
x0 = draw(wanted, labels)
show_rows({"outline": 2 * wanted - 1, "sample": x0, "original": digits});
# %% [markdown]
# ### The strength
#
# Same outlines, same noise, no label; only the strength changes. At 0 the base draws what it likes.
# Follow a column downwards, and find the row in which the digit gives in. Beyond 1 the push is larger
# than any that occurred in training. Look for what becomes of the strokes there.

# %%
strengths = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.5]
by_strength = {f"{s:g}": draw(wanted, no_label, 1.0, strength=s, steps=10) for s in strengths}
show_rows({"strength": 2 * wanted - 1, **by_strength}, size=0.6);
# %% [markdown]
# ### When label and outline contradict each other
#
# What if the outline is that of a 7 and the label says 3? Below, each row is one outline (first column),
# and each column after it one label from 0 to 9. One picture in each row is asked for what its outline
# shows; the other nine are asked for the impossible. Read along the rows: is it the outline that wins, or
# the label?

# %%
chosen = [0, 1, 3, 8]
against = wanted[chosen].repeat_interleave(10, dim=0)
every_label = torch.arange(10).repeat(len(chosen))
x0 = draw(against, every_label, scale=3.0).unflatten(0, (len(chosen), 10))
rows = torch.cat([2 * wanted[chosen][:, None] - 1, x0], dim=1)
titles = ["outline", *(f"label {i}" for i in range(10))] + [""] * (11 * (len(chosen) - 1))
plots.show(rows.flatten(0, 1), titles, columns=11, size=0.72);
# %% [markdown]
# The outline wins: in almost every place it leaves nothing to decide, and guidance can only amplify a
# difference that is there. Look closely for the little that is left to the label: a trace of ink in a
# hole of the outline, a gap, a softer corner. At a strength of 1 the label has hardly a chance. The next
# figure gives it one: wrong labels, and the strength from 0 to 1. The blue curve is how well the outline
# is kept, the orange one how many digits the judge of lesson 04 reads as the *label*, the green one how
# many as the outline's digit. Somewhere the orange and the green curve cross: there, what is asked for
# changes hands.

# %%
from course.metrics import accuracy, load_judge

many, truth = (x[:24] for x in mnist("test"))
outlines, wrong = edges(many), (truth + 5) % 10
levels = [0.0, 0.25, 0.5, 0.75, 1.0]
torn = [draw(outlines, wrong, scale=3.0, strength=s, steps=10) for s in levels]

figure, axis = plt.subplots()
axis.plot(levels, [edge_f1(edges(x0), outlines).mean() for x0 in torn], "o-", label="edge F1")
axis.plot(levels, [accuracy(load_judge(), x0, wrong) for x0 in torn], "o-", label="read as the label")
axis.plot(levels, [accuracy(load_judge(), x0, truth) for x0 in torn], "o-", label="read as the outline")
axis.set(xlabel="strength", ylim=(0, 1.03), title="24 outlines, each with a wrong label")
axis.legend();
# %% [markdown]
# With a thousand outlines, `python -m tests.benchmarks control` gives the F1 for right and for contradicting
# labels, with and without control.
#
# ### Outlines that nobody wrote
#
# The recipe has seen outlines of digits and nothing else. What does it make of other shapes? Here are a
# ring, a square, a cross, a heart and a slanted bar, drawn with formulas, and no label. Expect it to fill
# the shapes near to digits well (the ring is almost a 0). Where a shape is far from any digit, the base
# will try to make handwriting of it: soft ends, round corners.

# %%
v, h = torch.meshgrid(torch.linspace(-1.6, 1.6, 28), torch.linspace(-1.6, 1.6, 28), indexing="ij")
radius, square = (h**2 + v**2).sqrt(), torch.maximum(h.abs(), v.abs())


def heart(size: float) -> Tensor:
    """The inside of a heart; v points down."""
    x, y = h / size, v / size
    return (x**2 + y**2 - 1) ** 3 + x**2 * y**3 < 0


shapes = [(radius - 0.9).abs() < 0.18, (square - 0.9).abs() < 0.16,
          (torch.minimum(h.abs(), v.abs()) < 0.16) & (square < 1), heart(0.95) & ~heart(0.62),
          ((h + 0.5 * v).abs() < 0.2) & (v.abs() < 1)]
new_outlines = edges(torch.stack(shapes).float()[:, None] * 2 - 1)
x0 = draw(new_outlines, no_label[:5], scale=1.0)
show_rows({"outline": 2 * new_outlines - 1, "sample": x0}, size=1.0);
# %% [markdown]
# Change the formulas and try shapes of your own, or train on another condition: a thumbnail of 4 × 4
# pixels, say, in the place of `edges`. This is the same experiment as a QR code given to a ControlNet,
# which is what lesson 10 is about: the lecture's ControlNet was trained with pairs of an image and its
# *binarised* version, and a QR code is a binary image that no photograph ever had.
#
# ## Beside the library
#
# `diffusers` has `ControlNetModel`. Let it build a small one, and count its zero convolutions: one for each
# skip (`controlnet_down_blocks`), one for the middle (`controlnet_mid_block`), and one at the end of the
# condition's embedding (`conv_out`). Our three exits and one entry are these, on a smaller UNet.

# %%
from diffusers import ControlNetModel

theirs = ControlNetModel(
    in_channels=1, conditioning_channels=1, block_out_channels=(16, 32), layers_per_block=1,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), cross_attention_dim=8,
    attention_head_dim=4, norm_num_groups=8, conditioning_embedding_out_channels=(8, 16),
)
places = {
    "skips": list(theirs.controlnet_down_blocks),
    "middle": [theirs.controlnet_mid_block],
    "condition": [theirs.controlnet_cond_embedding.conv_out],
}
for name, layers in places.items():
    zero = all((p == 0).all() for layer in layers for p in layer.parameters())
    print(f"{name}: {len(layers)}, weight and bias all zero: {bool(zero)}")

# %% [markdown]
# The pipelines' `controlnet_conditioning_scale` is our strength. Their `guess_mode` leaves the control
# out of the unlabelled half, the choice that we decided against above.
#
# ## One noise, every kind of control
#
# Lessons 04, 06, 07 and 08 have one sampler and many $\hat\varepsilon$. Here they are side by side. Each
# column starts from the *same* noise, each row is another $\hat\varepsilon$, and all six rows use the
# same locked base.
#
# 1. **no control**: the base without a label;
# 2. **classifier guidance** (06): the same, pushed by the gradient of a classifier;
# 3. **classifier-free guidance** (07): the label inside the network;
# 4. **ControlNet**: the outline, and no label;
# 5. **ControlNet and label**;
# 6. **ControlNet and a label that contradicts it**.
#
# The labels stand above the columns (in the last row of digits they are five further on), and the
# outlines are shown last. Compare row 1 with rows 2 and 3: the digit changes, but often something of its
# slant or its place on the page stays, which is the noise showing through. From row 4 on it is the
# outline that decides where the ink goes.

# %%
from course.classifier_guidance import NoisyClassifier, classifier_guided_eps_model
from course.weights import card, load_weights

name = "mnist-noisy-classifier"
classifier = load_weights(NoisyClassifier(**card(name)["config"]), name)
no_control = as_eps_model(lambda xt, t: base(xt, t, no_label), alpha_bars)
kinds = {
    "no control": no_control,
    "classifier\nguidance": classifier_guided_eps_model(no_control, classifier, labels, alpha_bars, 3.0),
    "classifier-free\nguidance": cfg_eps_model(base, labels, base.null, alpha_bars, 2.0),
    "ControlNet": controlled_eps_model(base, control, wanted, no_label, alpha_bars),
    "ControlNet\nand label": controlled_eps_model(base, control, wanted, labels, alpha_bars, 2.0),
    "ControlNet and\nanother label": controlled_eps_model(
        base, control, wanted, (labels + 5) % 10, alpha_bars, 2.0),
}

# %%
start = torch.randn(10, 1, 28, 28, generator=generator)
rows = {name: list(sample(eps_model, start, alpha_bars, steps=20))[-1] for name, eps_model in kinds.items()}
figure = show_rows({**rows, "the outlines": 2 * wanted - 1}, size=0.75)
for axis, label in zip(figure.axes[:10], labels.tolist(), strict=True):
    axis.set_title(str(label), fontsize=9)
# %% [markdown]
# ## Recap
# 1. A condition is an image that belongs to the image, here its outline; an edge detector makes the pairs.
# 2. A zero convolution gives 0 and learns: the gradient of its weight is $\sum g\,x$, in which the weight
#    does not occur. What lies before it has to wait until it has moved.
# 3. ControlNet locks the base, copies its way down, feeds the condition in through a zero convolution,
#    and adds what comes out of one at each skip and the middle. Untrained, it *is* the base, bit for bit.
# 4. The loss is the base's own. The control appears suddenly, because it is a product of layers that
#    start at zero, and even from very few pairs, because the base knows the rest.
# 5. Strength scales what is added, γ amplifies the label; where the two disagree, the outline wins at full
#    strength.
#
# **What can go wrong.** The bias of the zero convolution left at random. A copy that shares its weights
# with the base, or that inherited its lock. The base in train mode, or under `no_grad` on its way up. One
# exit without its zero convolution. The condition added to $x_t$. The strength on the base's own skips.
# Conditions repeated in another order than guidance repeats the batch. F1 without a tolerance, or without
# the yardstick of a base that looks at nothing. A training stopped before the jump. A ControlNet loaded
# onto another base than its own: no error in most code, and nonsense.
#
# **Read on.** Zhang, Rao & Agrawala, *Adding Conditional Control to Text-to-Image Diffusion Models*
# (arXiv 2302.05543), sections 3.1 to 3.4. Mou et al., *T2I-Adapter* (arXiv 2302.08453), a lighter helper
# with the same aim. Bachlechner et al., *ReZero is All You Need* (arXiv 2003.04887), for layers that
# start at zero. Saxe, McClelland & Ganguli, *Exact solutions to the nonlinear dynamics of learning in
# deep linear neural networks* (arXiv 1312.6120), for plateaus and jumps. Ho & Salimans, *Classifier-Free
# Diffusion Guidance* (arXiv 2207.12598). To watch: the lecturer's channel JWAI
# (youtube.com/watch?v=lMNHTwFSGRY).
#
# **Next.** Lessons 09 and 10 put a QR code in the place of the outline.
