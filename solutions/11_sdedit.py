# %% [markdown]
# # 11 · SDEdit: editing by noising and denoising
#
# **After this lesson you can**
# - turn a clumsy picture into a realistic one with a network that was never trained to edit, and say
#   why it works;
# - choose how far an edit goes, and measure what it keeps and what it gains;
# - edit a part of a picture and leave the rest untouched, and carry a strength or a $t$ from one
#   library, or one resolution, to another.
#
# **Time:** about 80 minutes. **Needs:** lessons 02 and 04; lesson 07 for one section, where an edit
# follows a label.

# %%
from collections.abc import Iterator, Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from course import plots
from course.checks import check, hint
from course.classifier_free_guidance import ConditionalUNet, cfg_eps_model
from course.data import mnist
from course.forward_process import (
    alpha_bars_from_betas, at, cosine_schedule, linear_schedule, q_sample, snr
)
from course.metrics import (
    Gaussian, accuracy, fit_gaussian, frechet_distance, judge_features, load_judge
)
from course.sampling import EpsModel, as_eps_model, normal_like, sample, timesteps
from course.sdedit import Point, distance_to_segment, typed
from course.training import UNet
from course.weights import card, load_weights

plots.set_style()

# %% [markdown]
# ## The idea
#
# So far our networks drew what *they* liked. Now you hold the brush. You paint a few thick strokes that
# say where the ink of a digit should be, and the network makes a handwritten digit of them. Your strokes
# need no skill; they only have to be in the right place.
#
# In the language of lesson 01: your painting lies off the manifold of digits, and we want a point *on*
# the manifold that is *near* the painting. Meng et al. (2022) found that a trained diffusion model can
# already do this. Their method, **SDEdit**, has two steps:
#
# 1. **perturb**: add noise to the painting, up to some level $t$ (the forward process, which in
#    continuous time is a stochastic differential equation, an SDE);
# 2. **reverse**: walk back from there to $t = 0$, as in lesson 04 (the reverse SDE).
#
# $$\text{strokes } x \;\xrightarrow{\;\text{add noise}\;}\; x_t = \sqrt{\bar\alpha_t}\,x +
# \sqrt{1-\bar\alpha_t}\,\varepsilon \;\xrightarrow{\;\text{denoise}\;}\; \text{a digit.}$$
#
# Why should that work? Noise hides fine things first and coarse things last. At the right $t$ it has
# hidden all that makes a painting *look painted* (its straight edges, its even grey), while where the ink
# is can still be seen. For the network, such an $x_t$ might as well have come from a real digit, so it
# walks back to a real digit, and to one with its ink in that place.
#
# Nothing is trained for this. There is no loss and no gradient, and any diffusion model will do.
#
# ## Noising to $t$
#
# Only one thing is new against lesson 02: one $t$, an ordinary `int`, serves for the whole batch. In code
# $t$ counts from 0, so $t = 0$ is a trace of noise and $t = T-1$ the full noise.
#
# ### Exercise: the noised picture
#
# `normal_like(x, generator)` draws $\varepsilon$.

# %% exercise="sdedit.noise_to" lines=2
# %%
noise_to = check(noise_to)

# %% [markdown]
# Stuck? `hint(noise_to)` says a little more with each call.
#
# Here is a painting on its way to noise. The strokes are typed: `#` is white, `+` grey and `.` black.
# Look for the level at which you could still say *which* digit is meant, but no longer that it was made
# of little squares.

# %%
painted = typed("""
    ..............
    ...######.....
    ..########....
    .......+##....
    .......+##....
    ......###.....
    ....####......
    ......####....
    ........##....
    ........##....
    ...+...+##....
    ...#######....
    ....####......
    ..............
""")
alpha_bars = alpha_bars_from_betas(cosine_schedule())
levels = [0, 100, 200, 300, 400, 500, 600, 700, 800]

generator = torch.Generator().manual_seed(0)
noised = torch.cat([noise_to(painted, t, alpha_bars, generator) for t in levels])
plots.show(noised, [f"t = {t}" for t in levels], columns=9, size=0.85);
# %% [markdown]
# ## The walk back
#
# The sampler of lesson 04 can begin anywhere: `sample(…, start=t)` takes an $x_t$ at the level $t$ and
# spreads its steps over $t \dots 0$. That is the whole second half of SDEdit.
#
# Two things must agree: the level to which you **noise**, and the level at which the walk **starts**. A
# network that is told a larger $t$ than the picture has takes your strokes for noise and removes them.
# Told a smaller one, it takes noise for strokes.
#
# ### Exercise: SDEdit
#
# There are $t + 1$ levels from $t$ down to 0. Where that is fewer than `steps`, visit each of them once.

# %% exercise="sdedit.sdedit" lines=4
# %%
sdedit = check(sdedit)

# %% [markdown]
# Load the network of lesson 04, and edit the painting from $t = 550$. On the left is the noised painting,
# on the right the edit. Each row has its own noise, and so its own digit; what they share is where the ink
# lies.

# %%
network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
network = network.to(memory_format=torch.channels_last)  # the same numbers, faster on a CPU
eps_model = as_eps_model(network, alpha_bars, "v")

seeded = torch.Generator().manual_seed(1)
start = noise_to(painted.expand(3, -1, -1, -1), 550, alpha_bars, seeded)
seeded.manual_seed(1)  # the same noise once more
walk = sdedit(eps_model, painted.expand(3, -1, -1, -1), alpha_bars, 550, steps=27, eta=1.0,
              generator=seeded)
plots.show(plots.strip([start, *walk], frames=10), columns=10, size=0.75);
# %% [markdown]
# ## Why it works: a world where everything can be computed
#
# ### One pixel, by hand
#
# Let the data be a single pixel with the distribution $\mathcal N(m, c^2)$, with $m = 0$ and $c = 0.2$, and
# let your painting be $x = 0.8$. That is **four** standard deviations from the mean: no such data exist.
#
# Now add noise, to the level where $\sqrt{\bar\alpha_t}$ is 0.6 and $\sqrt{1-\bar\alpha_t}$ is 0.8. The
# painting becomes $x_t = 0.48 + 0.8\,\varepsilon$. And the data, at the same level? They have the mean 0
# and the variance $w_t = \bar\alpha_t c^2 + 1 - \bar\alpha_t$.

# %%
c, x, root, rest = 0.2, 0.8, 0.6, 0.8
spread = (root**2 * c**2 + rest**2) ** 0.5
print(f"before: {x / c:.1f} standard deviations off")
print(f"after:  {root * x / spread:.1f} standard deviations off, on average")

# %% [markdown]
# Among the noisy data, the noisy painting is nothing unusual. The noise has carried the painting and the
# data to a place where they overlap, and from there the network knows the way.
#
# ### How much of the painting is left?
#
# In this world we can say exactly where the way leads. Measure $x_t$ in standard deviations of the noisy
# data, and call that $z$. It is normal, because $\varepsilon$ is:
#
# $$z = \frac{x_t - \sqrt{\bar\alpha_t}\,m}{\sqrt{w_t}}
# = \frac{\sqrt{\bar\alpha_t}\,(x-m)}{\sqrt{w_t}} + \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{w_t}}\,\varepsilon .$$
#
# Everything that follows has a simple form in one number,
#
# $$g = \frac{c\,\sqrt{\bar\alpha_t}}{\sqrt{w_t}}, \qquad\text{for which}\qquad
# 1 - g^2 = \frac{w_t - c^2\bar\alpha_t}{w_t} = \frac{1-\bar\alpha_t}{w_t},
# \qquad\text{so}\qquad
# z = g\,\frac{x-m}{c} + \sqrt{1-g^2}\;\varepsilon .$$
#
# The painting was $(x-m)/c = 4$ standard deviations off, and $g$ is what the noise has left of it: above,
# $0.148 \cdot 4 = 0.6$.
#
# **With $\eta = 0$** the walk is an ODE whose paths never cross (lesson 04). So what is $z$ standard
# deviations off among the noisy data ends $z$ standard deviations off among the clean ones. The edit is
# $m + c\,z$, that is
#
# $$\boxed{\;\text{edit} = m + g\,(x - m) + c\sqrt{1-g^2}\;\varepsilon .\;}$$
#
# **With $\eta = 1$** the walk draws from $p(x_0 \mid x_t)$. For jointly normal variables we know its mean
# and its variance: the covariance of $x_0$ and $x_t$ is $\sqrt{\bar\alpha_t}\,c^2$, so the mean is
# $m + \sqrt{\bar\alpha_t}\,c^2\,(x_t - \sqrt{\bar\alpha_t}\,m)/w_t = m + c\,g\,z$ and the variance is
# $c^2 - \bar\alpha_t c^4/w_t = c^2(1-g^2)$. Put $z$ in, with a fresh noise $\varepsilon'$ for the draw:
#
# $$\text{edit} = m + g^2\,(x - m) + c\,g\sqrt{1-g^2}\;\varepsilon + c\sqrt{1-g^2}\;\varepsilon' .$$
#
# The two noises are independent and their variances add up to $c^2(1-g^2)(g^2+1) = c^2(1-g^4)$. So it is
# the formula in the box once more, with $g^2$ in the place of $g$. In words: **an edit keeps the share $g$
# of what is unusual about the painting, and replaces the rest by what is usual among the data; fresh
# noise on the way squares the share.** At $g = 1$ nothing happens, at $g = 0$ the painting is forgotten.
#
# One more look at $g$. Divide above and below by $1-\bar\alpha_t$:
#
# $$g^2 = \frac{c^2\,\bar\alpha_t}{c^2\,\bar\alpha_t + 1 - \bar\alpha_t}
# = \frac{c^2\,\mathrm{SNR}(t)}{c^2\,\mathrm{SNR}(t) + 1} .$$
#
# The schedule enters through the SNR of lesson 02 alone. Remember this for the section on resolutions.
#
# Does `sdedit` do what the formulas say? In the figure, lines and bands are the formulas' means and
# standard deviations, and the dots and bars are 2,000 edits. Look at both ends, and at who is lower in the
# middle.

# %%
def pixel_eps(xt: Tensor, t: Tensor) -> Tensor:
    """E[ε | x_t] for data from N(0, c²), as in lesson 04."""
    a = at(alpha_bars, t, xt)
    return (1 - a).sqrt() * xt / (a * c**2 + 1 - a)


g = (c**2 * snr(alpha_bars) / (c**2 * snr(alpha_bars) + 1)).sqrt()
paintings = torch.full((2000, 1, 1, 1), x)
figure, axis = plt.subplots()
for colour, (eta, share) in zip(plots.COLOURS, [(0.0, g), (1.0, g**2)], strict=False):
    mean, std = share * x, c * (1 - share**2).sqrt()
    axis.plot(mean, color=colour, label=rf"$\eta$ = {eta:g}")
    axis.fill_between(range(1000), mean - std, mean + std, color=colour, alpha=0.12, linewidth=0)
    for t in range(20, 1000, 140):
        *_, edit = sdedit(pixel_eps, paintings, alpha_bars, t, steps=150, eta=eta, generator=generator)
        axis.errorbar(t + 8 * eta, edit.mean(), edit.std(), fmt="o", color=colour, markersize=4)
axis.axhline(0, color="grey", linewidth=0.8)
axis.set(xlabel="t", ylabel="edit of x = 0.8")
axis.legend();
# %% [markdown]
# <details><summary><b>Think:</b> at the same $t$, should you edit with $\eta = 0$ or $\eta = 1$?</summary>
#
# $\eta = 1$ pulls harder towards the data, because it keeps $g^2$ and not $g$. That is no better or worse:
# an ODE that starts at a larger $t$ keeps just as much. What $\eta = 1$ adds is that a mistake which the
# network makes early in the walk can be put right later, as lesson 04 measured. The SDE gave SDEdit its
# name, and we follow it with $\eta = 1$.
# </details>
#
# ### A manifold, and a clumsy stroke
#
# A pixel has no manifold, so let the data lie on a **ring** in the plane: 60 narrow Gaussians in a circle,
# whose best $\hat\varepsilon$ is lesson 04's formula. Your painting is an attempt at an arc, but you could
# only draw a straight line (coloured from one end to the other). Look for the level at which the line has
# become an *arc*, with its colours still in order, and for what happens to the colours beyond.

# %%
angles = torch.arange(60) / 60 * 2 * torch.pi
centres = 0.7 * torch.stack([angles.cos(), angles.sin()], dim=1)  # (60, 2)


def ring_eps(xt: Tensor, t: Tensor) -> Tensor:
    """E[ε | x_t] for 60 equal Gaussians of standard deviation 0.03 on a ring. xt: (b, 2)."""
    a = at(alpha_bars, t, xt)
    variance = a * 0.03**2 + 1 - a
    away = xt[:, None] - a[..., None].sqrt() * centres  # (b, 60, 2)
    share = torch.softmax(-away.square().sum(dim=2) / (2 * variance), dim=1)
    return (1 - a).sqrt() / variance * (share[..., None] * away).sum(dim=1)


along = torch.linspace(0, 1, 150)[:, None]
line = torch.tensor([-0.2, 0.95]) * (1 - along) + torch.tensor([0.95, -0.2]) * along
levels = [None, 5, 30, 100, 250, 999]
figure, axes = plt.subplots(1, 6, figsize=(9.6, 1.95), sharex=True, sharey=True, layout="constrained")
for axis, t in zip(axes, levels, strict=True):
    edit = line
    if t is not None:
        *_, edit = sdedit(ring_eps, line, alpha_bars, t, steps=100, eta=1.0, generator=generator)
    axis.plot(*(0.7 * torch.stack([angles.cos(), angles.sin()])), color="lightgrey", linewidth=6, zorder=0)
    axis.scatter(*edit.T, c=along, s=4, cmap="viridis")
    axis.set(title="the painting" if t is None else f"t = {t}", aspect="equal", xticks=[], yticks=[])
# %% [markdown]
# From a small $t$ the line stays a line: there was not enough noise to reach the ring. From a middling $t$
# each point goes to the part of the ring that is near it. From a large $t$ it goes anywhere. (This ring is
# thin, $c = 0.03$, so little noise reaches it. The manifold of digits is not so simple, and we shall have
# to *measure* where its middling $t$ lies.) That is the whole of this lesson: **too little noise is not
# realistic, too much is not faithful.**
#
# ## Painting in code
#
# Back to digits. You have seen one way to paint: to type. Here is another, a round brush that follows
# straight lines from point to point. A point is (x, y) in pixels, x to the right and y *down*, and a
# stroke is a list of points. `distance_to_segment` measures how far each pixel is from one straight line;
# the ink is where the nearest line is closer than half the brush's width.

# %% inline="sdedit.paint"
# %% [markdown]
# Two helpers for the figures: one makes an edit of each picture, the other shows rows of them.

# %%
def edit_at(x: Tensor, t: int, model: EpsModel = eps_model, seed: int = 0) -> Tensor:
    """One edit of each picture, in 25 calls with fresh noise."""
    seeded = torch.Generator().manual_seed(seed)
    *_, edit = sdedit(model, x, alpha_bars, t, steps=25, eta=1.0, generator=seeded)
    return edit


def rows(pictures: Sequence[Tensor], names: Sequence[str], size: float = 0.75) -> None:
    """Rows of pictures, each row with its name above."""
    figure = plots.show(torch.cat(list(pictures)), columns=len(pictures[0]), size=size)
    for axis, name in zip(figure.axes[:: len(pictures[0])], names, strict=True):
        axis.set_title("t", color="none", fontsize=9)  # keeps the room free, but no wider than this
        axis.annotate(name, (0, 1.1), xycoords="axes fraction", fontsize=9).set_in_layout(False)


# %% [markdown]
# Six paintings made of very few points, and their edits from larger and larger $t$. Look down each
# column: first the edges become those of a pen, then corners round off and lines begin to sway, and at the
# end a digit may change into another.

# %%
strokes = [
    [[(8, 7), (20, 7), (12, 22)]],
    [[(8, 8), (18, 7), (19, 11), (12, 13), (19, 17), (17, 22), (8, 21)]],
    [[(14, 6), (8, 14), (14, 22), (20, 14), (14, 6)]],
    [[(9, 6), (9, 14), (19, 14)], [(17, 8), (17, 23)]],
    [[(8, 9), (13, 6), (19, 10), (9, 22), (20, 22)]],
    [[(18, 6), (11, 14), (11, 20), (17, 22), (18, 16), (11, 16)]],
]
drawn = torch.cat([paint(s) for s in strokes])

levels = [300, 500, 600, 700, 800]
rows([drawn, *(edit_at(drawn, t) for t in levels)], ["painted", *(f"t = {t}" for t in levels)])
# %% [markdown]
# Paint your own. Change the points, the width or the level, and run the cell again. If the result looks
# like your strokes, raise $t$; if it has nothing to do with them, lower it.

# %%
mine = paint([[(9, 5), (14, 10), (19, 5)], [(14, 10), (14, 22)]], width=3.5)
rows([mine.expand(8, -1, -1, -1), edit_at(mine.expand(8, -1, -1, -1), t=650, seed=3)],
     ["mine", "eight edits from t = 650"])
# %% [markdown]
# ### Coarse pictures by the hundred
#
# To *measure* edits we need hundreds of paintings, and nobody wants to paint them. So we take real digits
# and make them clumsy: average each square of 4 × 4 pixels, and allow only three crayons, black, grey
# and white. (The paper makes its strokes from photographs in the same spirit, with a median filter and
# few colours.)
#
# Averages lie in [−1, 1]. To move one to the nearest of $n$ evenly spaced values, go to [0, 1], multiply by
# $n - 1$ so that the allowed values are the whole numbers $0 \dots n-1$, round, and go back.
#
# ### Exercise: the coarse picture
#
# `F.avg_pool2d` averages squares, and `F.interpolate(…, scale_factor=block)` makes each pixel a square.

# %% exercise="sdedit.coarse" lines=3
# %%
coarse = check(coarse)

# %% [markdown]
# Ten test digits, coarse (first row), and what becomes of them. What did you expect of the fourth column,
# and of the ninth? The coarse picture allows more than one reading, and each row has chosen one.

# %%
images, labels = mnist("test")
inputs = coarse(images[:10])
levels = [200, 400, 500, 600, 800]
rows([inputs, *(edit_at(inputs, t) for t in levels), images[:10]],
     ["coarse", *(f"t = {t}" for t in levels), "the digits they were made from"], size=0.72)
# %% [markdown]
# ## How far should an edit go?
#
# The paper's two words for what we want are **faithful**, like the painting, and **realistic**, like the
# data. One falls with $t$ and the other rises. To choose, we need a number for each; to compare them, both
# on the same scale, from 0 to 1.
#
# ### Faithful: nearer than a stranger
#
# Take the mean squared difference between edit and input. Pixel by pixel it is too strict: a thin line
# beside a thin line counts as a double mistake. So we compare the averages of 4 × 4 squares, which is
# all that the painting says anyway. And what is "far"? The distance of **strangers**, digits that have
# never seen this input. With $d$ for the mean squared difference of averages,
#
# $$\text{faithfulness} = \max\!\left(0,\; 1 - \frac{d(\text{edit}, x)}{d(\text{strangers}, x)}\right).$$
#
# ### Exercise: faithfulness

# %% exercise="sdedit.faithfulness" lines=3
# %%
faithfulness = check(faithfulness)

# %% [markdown]
# ### Realistic: how far it has come
#
# For realism we have lesson 04's Fréchet distance $F$ between the judge's features of our images and of
# real digits. The paintings themselves are far away. We ask which share of that way the edits have gone:
#
# $$\text{realism} = \max\!\left(0,\; 1 - \frac{F(\text{edits})}{F(\text{paintings})}\right).$$
#
# This is a statement about a *set* of pictures, and it depends on their number. Here we take 100, so that
# the notebook stays quick, and even 100 real digits would not get a full 1.

# %% inline="sdedit.realism"
# %% [markdown]
# ### Both at once
#
# An edit that does nothing is perfectly faithful and not at all realistic; a digit drawn from nothing is
# the reverse. The ordinary mean gives each of them about a half, as if they were decent edits. The
# **harmonic mean** does not: it is near 0 where either number is, and largest where both are good,
#
# $$\text{balance} = \frac{2\,f\,r}{f + r}.$$
#
# ### Exercise: the balance

# %% exercise="sdedit.balance" lines=2
# %%
balance = check(balance)

# %% [markdown]
# Now the curve. Below are all three numbers against $t$, for 100 coarse digits. Faithfulness should fall
# and realism rise; look at where they cross, and how wide the top of the balance is. (The same at
# $N = 1000$: `python -m tests.benchmarks sdedit`.)

# %%
N = 100
judge = load_judge()
real = fit_gaussian(judge_features(judge, mnist("train")[0][:10_000]))
inputs, strangers = coarse(images[:N]), images[N : 2 * N]
levels = [100, 300, 450, 550, 650, 800, 999]

edits = [edit_at(inputs, t) for t in levels]
faithful = torch.tensor([faithfulness(edit, inputs, strangers) for edit in edits])
realistic = torch.tensor([realism(edit, inputs, real) for edit in edits])

# %%
figure, axis = plt.subplots()
for values, name in [(faithful, "faithfulness"), (realistic, "realism"),
                     (balance(faithful, realistic), "balance")]:
    axis.plot(levels, values, "o-", label=name)
best = int(balance(faithful, realistic).argmax())
axis.axvline(levels[best], color="grey", linestyle="--", linewidth=0.8)
axis.set(xlabel="t", ylim=(0, 1.05), title=f"{N} coarse digits, 25 calls; best at t = {levels[best]}")
axis.legend();
# %% [markdown]
# And the pictures behind the points. Go down from the coarse inputs and stop where you would have stopped;
# then compare with the dashed line.

# %%
rows([inputs[10:20], *(edit[10:20] for edit in edits)], ["coarse", *(f"t = {t}" for t in levels)], 0.72)
# %% [markdown]
# There is no $t$ that is right for every painting. The finer the painting, the less there is to put
# right, and the smaller $t$ may be. The paper's advice is to try a few from the middle of the range and
# to look; ours is the same, with a number to go by.
#
# ## From digit to digit
#
# So far the network was free to see in a painting what it liked. A network with labels (lesson 07) can be
# told. Take a *real* digit as the input, noise it to $t$, and walk back with guided noise towards
# **another** label. `sdedit` does not change: it gets another `eps_model`, and that is all.
#
# Which digits turn easily into which? Before you look, say for each pair in the titles from which $t$ on
# you expect it to work. A 3 needs two small strokes to be an 8; a 0 needs more to be a 6.

# %%
labelled = ConditionalUNet(**card("mnist-cfg")["config"])
labelled = load_weights(labelled, "mnist-cfg").to(memory_format=torch.channels_last)
pairs = [(4, 9), (7, 1), (3, 8), (1, 7), (5, 6), (0, 6), (9, 4), (2, 3)]

digits = torch.cat([images[labels == a][3:4] for a, _ in pairs])
asked = torch.tensor([b for _, b in pairs])
towards = cfg_eps_model(labelled, asked, labelled.null, alpha_bars, guidance_scale=2.0)

levels = [400, 600, 700, 800, 900]
turned = [edit_at(digits, t, towards) for t in levels]
figure = plots.show(torch.cat([digits, *turned]), columns=8, size=0.8,
                    titles=[f"{a} → {b}" for a, b in pairs] + [""] * 40)
figure.suptitle("above: the digit · below: t = " + ", ".join(map(str, levels)), fontsize=10);
# %% [markdown]
# At $t = 400$ the label has little say: most shapes are settled, and only a digit that was nearly another
# one (an open 4, say, that needs a lid to be a 9) tips over. Far up, the label has all the say, and nothing
# of the old digit is left. Between them lie the edits one wants: *this* hand's slant and *this* pen's width,
# with another digit. Note that the needed $t$ is larger than for strokes. To change *what is there*, one has
# to undo coarser decisions than to change how it is drawn.
#
# <details><summary><b>Think:</b> would a larger guidance scale $\gamma$ do instead of a larger $t$?</summary>
#
# Only up to a point. $\gamma$ decides how hard the walk is pulled, $t$ how much room it has to move. Pulled
# hard in a small room, it breaks the picture before it turns it into another digit. Try
# `guidance_scale=6.0` at $t = 400$.
# </details>
#
# ## Only here: editing behind a mask
#
# Often a *part* of a picture should change and the rest stay as it is, to the last pixel. Let $m$ be the
# **mask**, 1 where the edit may change the picture and 0 where it may not.
#
# It does not help to paste the old part back at the end: the new part was made to fit other surroundings,
# and there would be a seam. The network has to *see* the true surroundings during the walk. But at level
# $t$ it expects a noisy picture, and the true surroundings are clean. So we show it the original **noised
# to that level**: after every step to a level $s$,
#
# $$x_s \;\leftarrow\; m\,x_s + (1-m)\left(\sqrt{\bar\alpha_s}\,x + \sqrt{1-\bar\alpha_s}\;\varepsilon\right).$$
#
# Does that take a new sampler, with pasting built in? No. Ask what the *noise* would have to be for the
# sampler to do this by itself. Outside the mask we know both $x_t$ and the original $x$, and the closed
# form has only one unknown left:
#
# $$x_t = \sqrt{\bar\alpha_t}\,x + \sqrt{1-\bar\alpha_t}\;\varepsilon
# \qquad\Longrightarrow\qquad
# \hat\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,x}{\sqrt{1-\bar\alpha_t}}
# \quad\text{outside the mask.}$$
#
# Told *this* noise, the sampler finds $\hat x_0 = x$ there, and its next step is
# $\sqrt{\bar\alpha_s}\,x$ plus noise of variance $1-\bar\alpha_s$: exactly the original at the level $s$, for
# every $\eta$. At the last step it is $x$ itself. One sampler, another $\hat\varepsilon$.
#
# ### Exercise: the noise outside the mask

# %% exercise="sdedit.noise_outside" lines=3
# %%
noise_outside = check(noise_outside)

# %% [markdown]
# With it, any model of the noise becomes one that leaves the outside alone:

# %% inline="sdedit.keep_outside"
# %% [markdown]
# Below, the lower half of six digits may change. At $t = 999$ the old lower half has no influence at
# all, and the network has to *invent* one that goes with the upper half (this is called **inpainting**).
# Look along the middle of each digit for a seam, and down each column for other ways to complete it.

# %%
six = torch.cat([images[labels == d][1:2] for d in (0, 3, 4, 7, 8, 9)])
lower = torch.zeros(1, 1, 28, 28)
lower[..., 14:, :] = 1

behind = keep_outside(eps_model, six, lower, alpha_bars)
hidden = torch.where(lower == 1, -0.5, six)
edits = [edit_at(six, t, behind, seed) for t, seed in [(700, 1), (999, 1), (999, 2), (999, 3)]]
rows([six, hidden, *edits], ["original", "what is kept", "t = 700", "t = 999", "t = 999", "t = 999"])
print("largest change outside the mask:", f"{((1 - lower) * (edits[1] - six)).abs().max():.3f}")

# %% [markdown]
# Not every completion is good. The upper half is pasted in at each level, but the network had no chance to
# *adapt* the two halves to each other before the next step. RePaint (Lugmayr et al., 2022) gives it that
# chance: it adds noise to the result of a step and walks the same stretch several times.
#
# ## The same $t$ at another resolution
#
# The lecture's examples are edited from $t = 500$. Suppose that they are 256 pixels wide. We saw how much
# $t = 500$ changes of a coarse digit of 28 pixels. Is that the same amount? No: **the same $t$ destroys much
# less of a larger picture.**
#
# ### The argument
#
# Take a picture of side $28\,k$ that shows nothing finer than the picture of side 28: every $k \times k$ block
# has one value. Noise it to $t$, and then average each block, to bring it back to 28 pixels.
#
# - The **signal** of a block is the same $k^2$ times. Its average is what it was:
#   $\sqrt{\bar\alpha_t}\,x$.
# - The **noise** of a block is $k^2$ *independent* numbers of variance $1-\bar\alpha_t$. The variance of their
#   sum is $k^2(1-\bar\alpha_t)$; an average is the sum divided by $k^2$, which divides the variance by $k^4$.
#   What remains is $(1-\bar\alpha_t)/k^2$: the noise's size has shrunk by $k$.
#
# So at the scale of 28 pixels the signal-to-noise ratio of the large picture is
#
# $$\mathrm{SNR}_{\text{effective}} = \frac{\bar\alpha_t}{(1-\bar\alpha_t)/k^2} = k^2\;\mathrm{SNR}(t).$$
#
# A network need not average anything to profit from this. The information is in the picture, and a network
# that looks at more than one pixel at a time will use it. And lesson 02, like the formula for $g$ above,
# said that the SNR is all that counts. Hence the level $t'$ at which a small picture is edited as much as a
# large one at $t$:
#
# $$\boxed{\;\mathrm{SNR}(t') = \left(\frac{\text{size}}{\text{to size}}\right)^{\!2}\,\mathrm{SNR}(t).\;}$$
#
# From 256 to 28 pixels the factor is $(256/28)^2 \approx 84$.
#
# ### Exercise: the matching level
#
# An SNR is a ratio, so "nearest" is meant as a ratio, too: compare logarithms. The two levels may belong
# to different schedules.

# %% exercise="sdedit.snr_matched_t" lines=3
# %%
snr_matched_t = check(snr_matched_t)

# %% [markdown]
# What does $t = 500$ at 256 pixels mean at 28? (These are also rows of the README's table:
# `python -m tests.benchmarks resolution`.)

# %%
linear = alpha_bars_from_betas(linear_schedule())
print("linear schedule:", snr_matched_t(500, linear, 256, 28))
print("cosine schedule:", snr_matched_t(500, alpha_bars, 256, 28))
print("from linear, at 256, to the cosine schedule of our network:",
      snr_matched_t(500, linear, 256, 28, alpha_bars))

# %% [markdown]
# Now see it. One digit, enlarged 1, 2, 4 and 9 times (252 pixels are nearly 256, and make even blocks),
# each noised to the *same* $t = 500$ of the linear schedule. The first row shows the noisy pictures at
# their own sizes, the second averages them down to 28. The third row starts from the small digit, noised
# to the matching $t'$. The second and third row should be equally noisy, column by column. (All pictures
# are divided by their own $\sqrt{\bar\alpha}$, so that the digit is equally bright.)

# %%
digit = images[labels == 5][:1]
figure, axes = plt.subplots(3, 4, figsize=(6.4, 4.9), layout="constrained")
for column, k in zip(axes.T, [1, 2, 4, 9], strict=True):
    large = F.interpolate(digit, scale_factor=k, mode="bilinear")
    noisy = noise_to(large, 500, linear, generator) / linear[500].sqrt()
    matched = snr_matched_t(500, linear, 28 * k, 28)
    small = noise_to(digit, matched, linear, generator) / linear[matched].sqrt()
    for axis, picture in zip(column, [noisy, F.avg_pool2d(noisy, k), small], strict=True):
        axis.imshow(picture[0, 0], cmap="gray", vmin=-2, vmax=2)
        axis.axis("off")
    column[0].set_title(f"{28 * k} px, t = 500", fontsize=9)
    column[1].set_title("averaged to 28 px", fontsize=9)
    column[2].set_title(f"28 px, t = {matched}", fontsize=9)
# %% [markdown]
# Seeing is not measuring, so let the judge read 100 such digits at many levels. On the left is its accuracy
# against $t$, for the four sizes; on the right the *same* numbers against the effective SNR. If the
# argument holds, the four curves on the right are one.

# %%
def read(k: int, t: int) -> float:
    """The judge's accuracy on 100 digits, enlarged k times, noised to t, and averaged down."""
    large = images[:100].repeat_interleave(k, dim=2).repeat_interleave(k, dim=3)
    noisy = noise_to(large, t, linear, generator) / linear[t].sqrt()
    return accuracy(judge, F.avg_pool2d(noisy, k), labels[:100])


figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), sharey=True, layout="constrained")
for k in (1, 2, 4, 9):
    levels = torch.arange(40, 1000, 96)
    share = [read(k, int(t)) for t in levels]
    left.plot(levels, share, "o-", markersize=3, label=f"{28 * k} px")
    right.semilogx(k**2 * snr(linear)[levels], share, "o-", markersize=3)
left.set(xlabel="t (linear schedule)", ylabel="read rightly", ylim=(0, 1.03))
right.set(xlabel=r"$k^2\,\mathrm{SNR}(t)$")
left.legend();
# %% [markdown]
# So when a paper says "$t = 500$", ask at which resolution and under which schedule. To do to a digit what
# an edit from $t = 500$ does to a photograph of 256 pixels, our network would have to start near $t = 220$,
# where, as you have seen, it hardly touches one. Conversely, a schedule that was made for small pictures
# leaves large ones too clean for too long; Hoogeboom et al. (2023) shift it by just this factor.
#
# <details><summary><b>Think:</b> our large pictures had nothing finer than 28 pixels. A photograph has
# hair and grain. What becomes of those at $t = 500$?</summary>
#
# They are signal at a finer scale, where fewer pixels are averaged ($k = 1$ for what is one pixel wide), and
# there the SNR is the plain one: they drown. The edit redraws hair and grain and keeps the face. Both are
# true at once, and this is why an edit of a photograph can look faithful and be new in every pixel: the
# larger the picture, the further apart the $t$ that loses the detail and the $t$ that loses the scene.
# </details>
#
# ## Beside the library
#
# `diffusers` calls this *image to image*. Its noising is the scheduler's `add_noise`, which must be ours to
# the last digits. In place of $t$ it has a **strength**, between 0 and 1, and it counts steps differently.
# It lays `num_inference_steps` values over *all* of $T-1 \dots 0$ and takes only the last
# ⌊strength · steps⌋ of them, so that a weak edit also makes fewer calls.
#
# ### Exercise: from strength to timesteps

# %% exercise="sdedit.strength_timesteps" lines=4
# %%
strength_timesteps = check(strength_timesteps)

# %% [markdown]
# The first of these values is our `t` and their number our `steps`. Where strength · T is a whole number of
# strides, `sdedit` then visits exactly the same levels:
#
# $$t = \text{strength}\cdot T - 1, \qquad \text{steps} = \text{strength}\cdot\text{num\_inference\_steps}.$$

# %%
from diffusers import DDIMScheduler

scheduler = DDIMScheduler(beta_schedule="squaredcos_cap_v2")
eps = torch.randn(drawn.shape, generator=torch.Generator().manual_seed(5))
theirs = scheduler.add_noise(drawn, eps, torch.full((len(drawn),), 599))
ours = noise_to(drawn, 599, alpha_bars, torch.Generator().manual_seed(5))
print("the same noisy pictures, to 1e-5:", bool((ours - theirs).abs().max() < 1e-5))

visited = strength_timesteps(0.6, 50, 1000)
print(f"strength 0.6 of 50 steps: t = {visited[0]}, {len(visited)} calls")
print("sdedit's levels:", visited == timesteps(visited[0] + 1, len(visited)))

# %% [markdown]
# (That is for schedulers with `timestep_spacing="trailing"`, the spacing of lesson 04. Many shipped
# pipelines use "leading" values, which start up to a stride lower. Their strength 1 is not quite pure
# noise.)
#
# ## Who else may edit?
#
# An editor that needs nothing but a picture and a public network can be turned on *your* pictures, too. It
# takes no permission and no skill to put someone else's photograph through the cell above. The lecture
# asks: *how to protect our image against diffusion-based editing?* This lesson's `sdedit` is the editor
# that **lesson 12** protects against. Its idea is to change the photograph before it is published, too little
# to be seen, so that every edit of it fails.
#
# Is that possible? An editor begins by burying the picture in noise. Let us add a random change to each
# pixel, of 8 levels of grey up or down (a usual size in that literature), and edit both pictures with the
# same noise. Below are digits, changed digits, and the two edits. Find a difference between the last two
# rows.

# %%
sign = torch.randint(0, 2, six.shape, generator=generator) * 2 - 1
changed = (six + 8 / 127.5 * sign).clamp(-1, 1)
before, after = edit_at(six, 600), edit_at(changed, 600)
rows([six, changed, before, after], ["original", "changed by 8 levels", "edit of the original",
                                     "edit of the changed one"])
# %% [markdown]
# As far as a glance can tell, they are the same. A random change is one more grain in a heap of noise. The
# lecture puts it like this: denoising in pixel space is *robust to pixel-level perturbations*, but
# *susceptible to perceptual-level ones*. A change has to be chosen, not drawn, and aimed at what the network
# looks for in $x_t$, its features, so that it survives the noise. How, and how well, is lesson 12's matter.
#
# ## Recap
# 1. SDEdit noises a picture to $t$ and walks back from $t$. It needs a trained model and nothing else.
# 2. It works because noise hides what is unusual about the picture before it hides where things are. For
#    Gaussian data an edit keeps the share $g$ ($\eta = 0$) or $g^2$ ($\eta = 1$) of what was unusual.
# 3. $t$ trades faithfulness for realism; the harmonic mean of the two finds a good one.
# 4. Another $\hat\varepsilon$ makes another editor: a label's, or one that knows the noise outside a mask.
# 5. A larger picture survives more: to do the same at another size, match $\mathrm{SNR}$ with the factor
#    $(\text{size}/\text{to size})^2$.
#
# **What can go wrong.** The walk started at $T-1$, or at another level than the noise. The noise forgotten,
# or added to a picture that was not scaled by $\sqrt{\bar\alpha_t}$. A mask inverted. The *clean* original
# pasted into a noisy picture. Steps counted over all of $T$ in one library and over $t$ in the other. A $t$
# taken from a paper without its resolution and its schedule; $k$ where $k^2$ belongs.
#
# **Read on.** Meng et al., *SDEdit: Guided Image Synthesis and Editing with Stochastic Differential
# Equations* (arXiv 2108.01073). Lugmayr et al., *RePaint* (arXiv 2201.09865), for masks. Choi et al., *ILVR*
# (arXiv 2108.02938), which keeps the coarse picture during the whole walk. Hoogeboom, Heek & Salimans,
# *simple diffusion* (arXiv 2301.11093), and Chen, *On the Importance of Noise Scheduling* (arXiv
# 2301.10972), for resolutions. The lecture also names Parmar et al., *Zero-shot Image-to-Image Translation*
# (arXiv 2302.03027), and Zhao et al., *DiffSwap* (CVPR 2023), which edit through the noisy picture in other
# ways.
#
# **Next.** Lesson 12 takes the other side, and protects pictures against what you have just built.
