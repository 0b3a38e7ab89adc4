# %% [markdown]
# # 13 · Flow matching: straight paths from noise to data
#
# **After this lesson you can**
# - train a network to predict a *velocity*, and prove in a few lines that the loss is right, although
#   every training pair names another velocity;
# - follow a velocity from noise to data with Euler's and with Heun's method, and count what each costs;
# - translate between flow matching and diffusion, show that Euler on the straight path *is* DDIM, and
#   say which differences remain.
#
# **Time:** about 80 minutes. **Needs:** lessons 02 to 04, derivatives, and conditional expectations.

# %%
from collections.abc import Callable, Iterator
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from course import metrics, plots
from course.checks import check, hint
from course.data import mnist
from course.flow_matching import Method, Velocity, per_image
from course.forward_process import alpha_bars_from_betas, cosine_schedule, q_sample
from course.sampling import EpsModel, as_eps_model, ddim_step, predict_x0, sample
from course.training import TrainState, UNet, batch_indices, train
from course.weights import card, load_weights

plots.set_style()

# %% [markdown]
# ## What if the path were straight?
#
# Lesson 02 built its bridge from data to noise out of a thousand small steps, with roots and products
# chosen so that the variance stays 1. Lesson 04 then found that the good way back, DDIM, is an ordinary
# differential equation. If an ODE is what we want in the end, we may as well start from there, and take
# the simplest path that leads from an image $x_0$ to a noise $\varepsilon$. That is a straight line:
#
# $$\boxed{\;x_t = (1-t)\,x_0 + t\,\varepsilon, \qquad t \in [0, 1].\;}$$
#
# There are no steps here and no schedule. The time $t$ is any number between 0 and 1.
#
# **Say the direction of time aloud:** in this course $t = 0$ is the **data**, and $t = 1$ is the **noise**,
# as in lessons 02 to 04, in Stable Diffusion 3 and in `diffusers`. To draw samples we go from $t = 1$
# *down* to $t = 0$. Many papers on flow matching (Lipman et al. 2023 among them) have it the other way
# round, with noise at 0 and data at 1. Both are fine. A mixture of the two gives noise, and no error message.
#
# ### Three numbers, by hand
#
# Take one pixel, $x_0 = 1$, and one noise, $\varepsilon = -0.5$. A quarter of the way is
# $0.75 \cdot 1 + 0.25 \cdot (-0.5) = 0.625$. How fast does the point move? The derivative of
# $(1-t)\,x_0 + t\,\varepsilon$ with respect to $t$ is
#
# $$\frac{\mathrm d x_t}{\mathrm d t} = \varepsilon - x_0 ,$$
#
# here $-1.5$, and it is the same at every $t$. So from any point of the way, both ends are easy to reach:
# walk the time $t$ back, and you are at $x_0$; walk the time $1 - t$ ahead, and you are at $\varepsilon$.

# %%
x0, eps = 1.0, -0.5
velocity = eps - x0

for t in [0.0, 0.25, 0.5, 1.0]:
    xt = (1 - t) * x0 + t * eps
    back, ahead = xt - t * velocity, xt + (1 - t) * velocity
    print(f"t = {t:4.2f}:  x_t = {xt:6.3f}   back to {back:.1f}, ahead to {ahead:.1f}")

# %% [markdown]
# ### Exercise: the path
#
# Now for a batch, where each image has its own time. As in lesson 02, a `t` of shape `(b,)` must not
# meet images of shape `(b, c, h, w)` unshaped. The helper `per_image(t, x)` makes it `(b, 1, 1, 1)`, and
# refuses times that are whole numbers or outside [0, 1]: step numbers, most likely.

# %% exercise="flow_matching.straight_path" lines=2
# %%
straight_path = check(straight_path)

# %% [markdown]
# Stuck? `hint(straight_path)` says a little more with each call.
#
# Here is a digit on its way along the straight path (above), and along the cosine schedule's path of
# lesson 02 with the same noise (below). They look much alike. Look at the middle columns, though: the
# straight path is *paler* there. Its weights add up to 1, but their squares do not.

# %%
images, labels = mnist("train")
alpha_bars = alpha_bars_from_betas(cosine_schedule())
generator = torch.Generator().manual_seed(0)

t = torch.tensor([0.0, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0])
digit = images[5:6].expand(9, -1, -1, -1)
noise = torch.randn(1, 1, 28, 28, generator=generator).expand(9, -1, -1, -1)
straight = straight_path(digit, t, noise)
curved = q_sample(digit, (t * 999).long(), noise, alpha_bars)
plots.show(torch.cat([straight, curved]), [f"t = {s:.2f}" for s in t] + [""] * 9, columns=9, size=0.9,
           title="above: straight path · below: cosine schedule");

# %% [markdown]
# <details><summary><b>Think:</b> by how much is it paler? And does it matter?</summary>
#
# For $x_0$ and $\varepsilon$ of variance 1, the variance of $x_t$ is $c^2 = (1-t)^2 + t^2$, which falls from 1
# to ½ in the middle and rises again. Nothing is lost by it: dividing by $c$ brings the variance
# back to 1 whenever we want. We will do exactly that to turn a flow into a diffusion.
# </details>
#
# ## One velocity for many paths
#
# To sample, we would like to start at a noise and follow its velocity $\varepsilon - x_0$ backwards in time.
# There are two obstacles. The first is an old friend: $x_0$ is what we do not know. The second is new.
# **Paths cross.** Take data that are single numbers in two humps, those of lesson 04: around $-0.6$ with
# probability 0.3, and around $0.4$ with probability 0.7. Below are 80 pairs of data and noise, each joined by
# its straight path. Look at the point in the circle. Orange paths pass through it, and each has another slope.

# %%
means, weights, spread = torch.tensor([[-0.6], [0.4]]), torch.tensor([0.3, 0.7]), 0.1


def draw_humps(n: int) -> Tensor:
    """n numbers of the two humps: (n, 1)."""
    hump = torch.multinomial(weights, n, replacement=True, generator=generator)
    return means[hump] + spread * torch.randn(n, 1, generator=generator)


# %%
x0, eps = draw_humps(80), torch.randn(80, 1, generator=generator)
middle = straight_path(x0, torch.full((80,), 0.5), eps)
figure, axis = plt.subplots(figsize=(6.4, 3.2))
for a, m, b in zip(x0, middle, eps, strict=True):
    here = abs(m - 0.1) < 0.08
    axis.plot([0, 1], [a, b], color=plots.COLOURS[1 if here else 5], lw=1.2 if here else 0.4,
              zorder=2 if here else 1)
axis.plot(0.5, 0.1, "o", markersize=14, markerfacecolor="none", color="black", zorder=3)
axis.set(xlabel="t (0 = data, 1 = noise)", ylabel="x");

# %% [markdown]
# A network is a function of $x_t$ and $t$. At the circle it can return *one* number, not many. The best
# single number, when errors are squared, is the mean:
#
# $$\boxed{\;u(x, t) = \mathbb E\big[\,\varepsilon - x_0 \;\big|\; x_t = x\,\big].\;}$$
#
# We call $\varepsilon - x_0$ the **conditional** velocity, since it belongs to one pair, and $u$ the
# **marginal** velocity, since it is averaged over all pairs that pass through $x$ at time $t$. Two questions decide
# whether this is of any use:
#
# 1. If points follow $u$, whose paths are nobody's straight path, do they still end as data?
# 2. Can we learn $u$, although we only ever see $\varepsilon - x_0$?
#
# Both answers are yes, and both proofs are short.
#
# ### The mean velocity carries the crowd
#
# Let $p_t$ be the density of $x_t$: the data's at $t = 0$, the normal one at $t = 1$. A density is known when
# we know the mean $\mathbb E[h(x_t)]$ of every smooth function $h$. (Think of $h$ as a thermometer that we hold
# into the crowd.) How does such a mean change? Differentiate inside the expectation, by the chain rule:
#
# $$\frac{\mathrm d}{\mathrm d t}\,\mathbb E[h(x_t)]
# = \mathbb E\big[\nabla h(x_t)\cdot(\varepsilon - x_0)\big]
# = \mathbb E\Big[\nabla h(x_t)\cdot\underbrace{\mathbb E[\varepsilon - x_0 \mid x_t]}_{u(x_t,\,t)}\Big].$$
#
# The second step is the tower property: average first over all pairs with the same $x_t$, where
# $\nabla h(x_t)$ is a constant, and then over $x_t$. The individual velocities are gone. **Only their mean
# matters to the crowd.**
#
# Now let points $y_t$ start with the density of the noise and follow the ODE $\mathrm d y/\mathrm d t = u(y, t)$.
# By the same chain rule, $\frac{\mathrm d}{\mathrm d t}\mathbb E[h(y_t)] = \mathbb E[\nabla h(y_t)\cdot u(y_t, t)]$.
# It is the same equation. Both crowds agree at $t = 1$ and obey the same law, and where $u$ is smooth that law
# has one solution only. So $y_t$ has the density $p_t$ at every time, and **at $t = 0$ the density of the data**.
#
# Written as integrals, and with one partial integration, the law reads
#
# $$\int h\,\frac{\partial p_t}{\partial t}\,\mathrm d x = \int \nabla h\cdot u\,p_t\,\mathrm d x
# = -\int h\;\nabla\!\cdot(p_t u)\,\mathrm d x \quad\text{for every } h,
# \qquad\text{that is}\qquad \frac{\partial p_t}{\partial t} = -\nabla\!\cdot(p_t\,u).$$
#
# This is the **continuity equation**. In words: $p_t u$ says how much of the crowd passes a place per unit of
# time, and where more leaves than arrives, the crowd thins out by just that much. Nobody appears
# from nowhere. We will check it with numbers in a moment.
#
# ### The mean velocity can be learned from single pairs
#
# Let $\hat u$ be any network. What is the difference between the loss that we want, against $u$, and the one that
# we can compute, against $\varepsilon - x_0$? Write $\hat u - (\varepsilon - x_0)$ as
# $(\hat u - u) + (u - (\varepsilon - x_0))$ and square:
#
# $$\mathbb E\big\|\hat u - (\varepsilon - x_0)\big\|^2
# = \underbrace{\mathbb E\|\hat u - u\|^2}_{\text{what we want}}
# + \underbrace{2\,\mathbb E\big[(\hat u - u)\cdot(u - (\varepsilon - x_0))\big]}_{=\;0}
# + \underbrace{\mathbb E\|u - (\varepsilon - x_0)\|^2}_{\text{no network in it}}.$$
#
# The middle term vanishes by the tower property again. Given $x_t$ and $t$, the factor $\hat u - u$ is a constant,
# and the other factor has the mean $u - \mathbb E[\varepsilon - x_0 \mid x_t] = 0$. The last term does not depend
# on the network. So the two losses differ by a constant, and **their gradients are the same**. That is the
# theorem of conditional flow matching (Lipman et al. 2023, theorem 2), and it leaves us with a loss in which
# everything can be drawn or computed:
#
# $$L = \mathbb E_{x_0,\,\varepsilon,\,t}\;\big\|\hat u(x_t, t) - (\varepsilon - x_0)\big\|^2 .$$
#
# ### Exercise: the loss
#
# As in lesson 03, everything random comes in as an argument. `velocity(xt, t)` is the network's prediction.

# %% exercise="flow_matching.flow_loss" lines=1
# %%
flow_loss = check(flow_loss)

# %% [markdown]
# <details><summary><b>Think:</b> how small can this loss become?</summary>
#
# Down to the last of the three terms, $\mathbb E\|u - (\varepsilon - x_0)\|^2$: how much the velocities of
# the pairs that meet at one point differ from each other. It is 0 only if no paths cross. At
# $t = 1$, say, $x_t$ is pure noise and says nothing of $x_0$, so what is left there is the whole variance of
# the data. A flow loss that lies still is no sign that nothing is being learned, as in lesson 03.
# </details>
#
# ## A world where the velocity is known
#
# For the two humps, $u$ can be worked out on paper. Suppose that $x_0$ comes from hump $k$, which is normal with
# the mean $m_k$ and the variance $\tau^2$ (in the code `std` is $\tau$). Then $x_t = (1-t)x_0 + t\varepsilon$ is
# normal too, with the mean $(1-t)m_k$ and the variance
#
# $$w = (1-t)^2\tau^2 + t^2 .$$
#
# Its covariance with $\varepsilon$ is $t$, and with $x_0$ it is $(1-t)\tau^2$. For jointly normal variables, the
# conditional mean moves from the plain mean by covariance over variance times the deviation
# $d_k = x_t - (1-t)m_k$:
#
# $$\mathbb E[\varepsilon \mid x_t, k] = \frac{t}{w}\,d_k, \qquad
# \mathbb E[x_0 \mid x_t, k] = m_k + \frac{(1-t)\tau^2}{w}\,d_k .$$
#
# Their difference is the velocity within the hump. Then average over the humps, each with the share that
# Bayes' rule gives it, now that $x_t$ has been seen:
#
# $$u(x_t, t) = \sum_k r_k\left[\frac{t - (1-t)\tau^2}{w}\,d_k - m_k\right], \qquad
# r_k = \operatorname{softmax}_k\!\left(\log\pi_k - \frac{\|d_k\|^2}{2w}\right).$$
#
# ### Exercise: the velocity of a mixture
#
# Write it for points in any number of dimensions: `xt` is `(b, d)`, `means` is `(k, d)`. With
# `xt[:, None]`, of shape `(b, 1, d)`, all differences come out at once as `(b, k, d)`.

# %% exercise="flow_matching.mixture_velocity" lines=6
# %%
mixture_velocity = check(mixture_velocity)

# %% [markdown]
# Does it agree with the definition? Draw 200,000 pairs, sort them by where they are at time $t$, and
# average $\varepsilon - x_0$ in each drawer. Each dot in the figure is such a drawer, and each line is
# your formula. The dots should lie on the lines. And see how the line changes: late (green, near the noise) it is
# almost straight. Early (blue, near the data) it is a steep zigzag, since there a tiny difference
# in $x$ decides between the humps.

# %%
def humps_velocity(xt: Tensor, t: Tensor) -> Tensor:
    return mixture_velocity(xt, t, means, weights, spread)


x0, eps = draw_humps(200_000), torch.randn(200_000, 1, generator=generator)
grid = torch.linspace(-1.5, 1.5, 301)[:, None]
figure, axis = plt.subplots()
for number, time in enumerate([0.15, 0.4, 0.8]):
    xt = straight_path(x0, torch.full((len(x0),), time), eps).flatten()
    for left in torch.arange(-1.4, 1.4, 0.14):
        inside = (xt >= left) & (xt < left + 0.14)
        if inside.sum() > 300:
            mean = (eps - x0)[inside].mean()
            axis.plot(xt[inside].mean(), mean, "o", color=plots.COLOURS[number], markersize=4)
    axis.plot(grid, humps_velocity(grid, torch.full((301,), time)), label=f"t = {time}", lw=1)
axis.set(xlabel="x", ylabel="u(x, t)")
axis.legend();

# %% [markdown]
# And the continuity equation? On the left is the density of the crowd a little before and a little after
# $t = 0.3$. On the right is how fast it changes (the difference of the two, over the time between), and
# what flows in, $-\partial(p_t u)/\partial x$. The dashed line should cover the other, and it should be positive
# exactly where the orange curve lies above the blue one.

# %%
def density(x: Tensor, t: float) -> Tensor:
    """p_t of the two humps. x: (n, 1) -> (n, 1)."""
    w = (1 - t) ** 2 * spread**2 + t**2
    humps = torch.exp(-((x - (1 - t) * means.T) ** 2) / (2 * w)) / (2 * torch.pi * w) ** 0.5
    return (humps * weights).sum(dim=1, keepdim=True)


x = torch.linspace(-1.6, 1.4, 601, dtype=torch.float64)[:, None]
flux = density(x, 0.3) * humps_velocity(x, torch.full((601,), 0.3))
flows_in = -torch.gradient(flux.flatten(), spacing=(x.flatten(),))[0]

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
left.plot(x, density(x, 0.25), label="t = 0.25")
left.plot(x, density(x, 0.35), label="t = 0.35")
left.set(xlabel="x", ylabel="density")
left.legend()
right.plot(x, (density(x, 0.301) - density(x, 0.299)) / 0.002, lw=3, color=plots.COLOURS[5],
           label=r"$\partial p_t/\partial t$")
right.plot(x, flows_in, "--", color="black", lw=1, label=r"$-\partial(p_t u)/\partial x$")
right.set(xlabel="x")
right.legend();

# %% [markdown]
# ## Walking along a velocity
#
# ### Euler's method
#
# We have $\mathrm d x/\mathrm d t = u(x, t)$, we stand at $x_t$, and we want to be at the time $s$. If the velocity
# did not change on the way, the answer would be exact:
#
# $$x_s = x_t + (s - t)\;u(x_t, t).$$
#
# Towards the data, $s < t$ and the step $s - t$ is *negative*. No other sign has to be turned: the
# velocity still points from data to noise, and we go against it.
#
# ### Exercise: one step of Euler's method

# %% exercise="flow_matching.euler_step" lines=2
# %%
euler_step = check(euler_step)

# %% [markdown]
# Two hundred small steps, from 14 evenly spread noises on the right to the data on the left. Behind the
# paths is the density $p_t$. Each path is orange, and a dotted line leads straight from its beginning
# to its end. Look at how far the two are apart. **Every conditional path is straight; the
# paths that are walked are not.** And no two of them cross: at a crossing, $u$ would need two values again.

# %%
x = torch.linspace(-2, 2, 14)[:, None]
walk = [x]
for t, s in pairwise(torch.linspace(1, 0, 201)):
    x = euler_step(humps_velocity, x, t.expand(14), s.expand(14))
    walk.append(x)
paths = torch.cat(walk, dim=1)

times, places = torch.linspace(0, 1, 101), torch.linspace(-2, 2, 201)[:, None]
crowd = torch.cat([density(places, float(time)) for time in times], dim=1)
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.pcolormesh(times, places.flatten(), crowd.sqrt(), cmap="Blues", shading="gouraud")
axis.plot(torch.linspace(1, 0, 201), paths.T, color=plots.COLOURS[1], lw=1.4)
axis.plot([1, 0], paths[:, [0, -1]].T, ":", color="black", lw=0.7)
axis.set(xlabel="t (0 = data, 1 = noise)", ylabel="x", ylim=(-2, 2))
axis.grid(False)

# %% [markdown]
# <details><summary><b>Think:</b> why do all paths set off in nearly the same direction at $t = 1$?</summary>
#
# At $t = 1$ the point *is* the noise, $x_1 = \varepsilon$, and it says nothing about which $x_0$ it will
# be paired with. So $u(x, 1) = x - \mathbb E[x_0]$: everybody heads for the mean of all data, the place in the
# middle. Only on the way does it become clear which hump is nearer, and the paths bend towards it.
# One single Euler step from 1 to 0 would put every point on that mean: $x - (x - \mathbb E[x_0]) = \mathbb E[x_0]$.
# For digits that is one grey smudge, the average of the training set.
# </details>
#
# ### Heun's method
#
# Euler's method assumes that the velocity stays what it was at the beginning of the step. Where the path
# bends, that is wrong by an amount proportional to the step's length $h$, so the point is off by
# about $h^2$ after the step. There are $1/h$ steps, and the errors add up to about $h$: the method is of the
# **first order**. Half the step, half the error.
#
# **Heun's method** looks ahead. Take an Euler step on trial, ask for the velocity at its end, and then walk
# from the old point with the mean of the two:
#
# $$k_1 = u(x_t, t), \qquad k_2 = u\big(x_t + (s-t)\,k_1,\; s\big), \qquad x_s = x_t + (s-t)\,\frac{k_1 + k_2}{2}.$$
#
# Why is that better? Along the true path, let $f(\tau)$ be the velocity at time $\tau$. The exact step is the
# integral of $f$ from $t$ to $s$: the area under the curve. Euler's rectangle uses the left edge. The mean of
# both edges makes it a trapezium, which is exact when $f$ is a straight line, so its error is of the size of
# $f$'s *curvature*, about $h^3$ a step. (That $k_2$ is taken at the trial point, which is off by about $h^2$,
# changes $f$ by about $h^2$ and the step by another $h^3$.) Over $1/h$ steps: $h^2$, the **second order**. Half
# the step, a quarter of the error.
#
# The price: **two network calls a step**.
#
# ### Exercise: one step of Heun's method

# %% exercise="flow_matching.heun_step" lines=4
# %%
heun_step = check(heun_step)

# %% [markdown]
# ### Exercise: the sampler
#
# A generator once more, from `start` down to 0 in `steps` equal steps, yielding each $x$. One detail matters for
# images. Heun's last step would ask the network for the velocity at $t = 0$, of an image without noise. But
# what is the mean noise in an image that has none? There is nothing to see, the answer is $\mathbb E[\varepsilon] = 0$,
# and a step that averages it in would leave half of the last noise on the picture. So **the step that ends
# at 0 is Euler's**, in either method. (Karras et al. (2022) do the same.) Then Heun makes
# `2 * steps - 1` calls.

# %% exercise="flow_matching.flow_sample" lines=8
# %%
flow_sample = check(flow_sample)

# %% [markdown]
# Which method is better **for the same number of calls**? We follow 500 noises of the two humps and compare
# their ends with those of a walk so fine that it counts as exact. Both axes are logarithmic, so an
# error of $h$ is a line of slope $-1$ and one of $h^2$ a line of slope $-2$ (dotted). Look at the
# slopes on the right, and at which method wins on the left.

# %%
start = torch.randn(500, 1, generator=generator, dtype=torch.float64)
*_, exact = flow_sample(humps_velocity, start, steps=2000, method="heun")


def error(steps: int, method: Method) -> float:
    *_, x = flow_sample(humps_velocity, start, steps=steps, method=method)
    return (x - exact).abs().mean().item()


counts = [3, 5, 9, 17, 33, 65, 129]
euler = [error(n, "euler") for n in counts]
heun = [error((n + 1) // 2, "heun") for n in counts]

# %%
figure, axis = plt.subplots()
axis.loglog(counts, euler, "o-", label="Euler")
axis.loglog(counts, heun, "o-", label="Heun")
few, many = counts[-3], counts[-1]
axis.loglog([few, many], [1.6 * euler[-1] * many / few, 1.6 * euler[-1]], ":", color="grey")
axis.loglog([few, many], [0.6 * heun[-1] * (many / few) ** 2, 0.6 * heun[-1]], ":", color="grey")
axis.text(70, 1.35 * euler[-3], "slope −1", color="grey")
axis.text(33, 0.15 * heun[-3], "slope −2", color="grey")
axis.set(xlabel="network calls", ylabel="mean error")
axis.set_xticks(counts, [str(n) for n in counts])
axis.minorticks_off()
axis.legend();

# %% [markdown]
# On the right, where steps are small, theory is right: the slopes are 1 and 2, and Heun wins by far. On the left
# it is the other way round. An order says how an error *falls*, not how large it is to begin with. With three
# calls, Heun has two coarse steps where Euler has three. Remember this figure when you see a
# claim like "a second-order solver is better": ask at how many calls, and of what.
#
# ### In the plane
#
# Five humps on a ring (circles), and 40 noises on their way with 1, 2, 4 and 30 steps of Euler's method. With one
# step, everything lands on the mean of the data, which is no hump at all. Watch how more steps turn corners into
# curves, and how the ends (orange) find the humps. Many paths first head for the middle and then turn round.

# %%
angles = torch.pi / 2 + torch.arange(5) * 2 * torch.pi / 5
ring, equal = torch.stack([angles.cos(), angles.sin()], dim=1) * 2.2, torch.full((5,), 1 / 5)


def ring_velocity(xt: Tensor, t: Tensor) -> Tensor:
    return mixture_velocity(xt, t, ring, equal, 0.1)


noises = torch.randn(40, 2, generator=generator)
figure, axes = plt.subplots(1, 4, figsize=(10, 3), sharex=True, sharey=True, layout="constrained")
for axis, steps in zip(axes, [1, 2, 4, 30], strict=True):
    walk = torch.stack([noises, *flow_sample(ring_velocity, noises, steps=steps)])
    axis.plot(walk[..., 0], walk[..., 1], color=plots.COLOURS[0], lw=0.7)
    axis.plot(*walk[-1].T, ".", color=plots.COLOURS[1], markersize=5)
    axis.plot(*ring.T, "o", markersize=11, markerfacecolor="none", color="black")
    axis.set(title=f"{steps} step{'s' if steps > 1 else ''}", aspect="equal")

# %% [markdown]
# *A good place to pause.* You can train a velocity and follow it. What is left is to see how all this hangs
# together with diffusion, and then to draw digits.
#
# ## The same thing as a diffusion
#
# ### Data and noise from a velocity
#
# By hand, at the beginning, both ends of a path were within reach: walk the time $t$ back, or
# $1 - t$ ahead. With the prediction $\hat u$ in place of $\varepsilon - x_0$,
#
# $$\hat x_0 = x_t - t\,\hat u, \qquad \hat\varepsilon = x_t + (1-t)\,\hat u .$$
#
# The first, with $x_t$ put in: $(1-t)x_0 + t\varepsilon - t\varepsilon + t x_0 = x_0$. The second likewise. No
# division, at any $t$.
#
# ### Exercise: both ends

# %% exercise="flow_matching.predict_both" lines=2
# %%
predict_both = check(predict_both)

# %% [markdown]
# Now look at an Euler step again. Its $x_t$ is $(1-t)\hat x_0 + t\hat\varepsilon$, and $\hat u$ is
# $\hat\varepsilon - \hat x_0$. So
#
# $$x_s = x_t + (s-t)\,\hat u = (1-t)\hat x_0 + t\hat\varepsilon + (s-t)(\hat\varepsilon - \hat x_0)
# = (1-s)\,\hat x_0 + s\,\hat\varepsilon .$$
#
# **Predict the data and the noise, and mix them anew in the proportion of time $s$.** We have seen this
# sentence before. It is DDIM.
#
# ### One image, two sizes
#
# A diffusion's state is $x = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\varepsilon$, with weights whose *squares* add up
# to 1. A flow's state has the weights $1 - t$ and $t$, which add up to 1 themselves. Divide it by
#
# $$c = \sqrt{(1-t)^2 + t^2},$$
#
# and the squares of the weights add up to 1 as well. So $x_t/c$ *is* a diffusion's state, the one with
# $\sqrt{\bar\alpha} = (1-t)/c$ and $\sqrt{1-\bar\alpha} = t/c$. The two kinds of noisy image are the same images, at
# different contrast. Which $t$ belongs to which $\bar\alpha$? The ratio of noise to signal must agree:
#
# $$\frac{t}{1-t} = \frac{\sqrt{1-\bar\alpha}}{\sqrt{\bar\alpha}}
# \qquad\Longleftrightarrow\qquad
# t = \frac{\sqrt{1-\bar\alpha}}{\sqrt{\bar\alpha} + \sqrt{1-\bar\alpha}} .$$
#
# ### Exercise: the matched times

# %% exercise="flow_matching.matched_times" lines=2
# %%
matched_times = check(matched_times)

# %% [markdown]
# The other direction, and the contrast $c$, are one line each.

# %% inline="flow_matching.matched_alpha_bars"
# %% inline="flow_matching.path_scale"
# %% [markdown]
# On the left, the matched time of each step of the cosine schedule, against the straight line. The two clocks
# differ by little. On the right, the contrast $c$. Where is the flow's state palest?

# %%
matched = matched_times(alpha_bars)
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
left.plot(matched, label="matched time")
left.plot([0, 999], [0, 1], ":", color="grey", label="step / 1000")
left.set(xlabel="step of the cosine schedule", ylabel="t")
left.legend()
right.plot(matched, path_scale(matched))
right.set(xlabel="t", ylabel="c", ylim=(0.6, 1.05));

# %% [markdown]
# ### Exercise: a flow in lesson 04's sampler
#
# So a flow can answer the question that every sampler and every guidance of this course asks: *what is the
# noise in this image?* Given a diffusion's state `x` and its `step` in a table of $\bar\alpha$: find the matched
# time, bring `x` to the flow's contrast ($c\,x$), ask the velocity, and return $\hat\varepsilon$. The noise itself
# needs no rescaling; it is the same standard normal noise in both.

# %% exercise="flow_matching.flow_to_eps" lines=4
# %%
flow_to_eps = check(flow_to_eps)

# %% [markdown]
# With that, a flow becomes an `eps_model`, and guidance (lessons 06 to 08) works on it as on any other.
# The way back works too: a diffusion, seen as a velocity.

# %% inline="flow_matching.flow_as_eps"
# %% inline="flow_matching.eps_as_flow"
# %% [markdown]
# ### Euler *is* DDIM
#
# Put the pieces together. DDIM with $\eta = 0$ mixes $\hat x_0$ and $\hat\varepsilon$ with the weights
# $\sqrt{\bar\alpha_s}$ and $\sqrt{1-\bar\alpha_s}$. Euler on the straight path mixes the *same two* with $1-s$ and $s$.
# Divide by $c_s$, and they are equal. Not almost equal, not in the limit: step for step, equal.
#
# Let us see. Ten Euler steps on the ring of humps, and ten DDIM steps with the matched $\bar\alpha$, from the same
# noises. (We start a hair below $t = 1$, because at $t = 1$ itself $\bar\alpha$ is 0 and DDIM divides by it. Flows
# do not mind.)

# %%
visited = torch.linspace(0.99, 0.01, 11)
table = matched_alpha_bars(visited.flip(0))  # a table of ᾱ counts from little noise to much
eps_model = flow_as_eps(ring_velocity, table)

flow = noises
diffusion = noises / path_scale(visited[0])
for k, (t, s) in enumerate(pairwise(visited)):
    flow = euler_step(ring_velocity, flow, t.expand(40), s.expand(40))
    step = torch.full((40,), 10 - k)
    diffusion = ddim_step(diffusion, step, eps_model(diffusion, step), table, clip=False)
    gap = (flow / path_scale(s) - diffusion).abs().max()
    print(f"t = {s:.2f}: the same to four decimals: {bool(gap < 5e-5)}")

# %% [markdown]
# Behind it is one ODE. Lesson 04 wrote the probability-flow ODE as $\mathrm d y/\mathrm d\varsigma = \hat\varepsilon$, for
# the image at its original size, $y = x/\sqrt{\bar\alpha}$, and the noise on it,
# $\varsigma = \sqrt{1-\bar\alpha}/\sqrt{\bar\alpha}$. On the straight path these are $y = x_t/(1-t)$ and
# $\varsigma = t/(1-t)$. Differentiate both with respect to $t$:
#
# $$\frac{\mathrm d y}{\mathrm d t} = \frac{(1-t)\,u + x_t}{(1-t)^2} = \frac{\hat\varepsilon}{(1-t)^2}, \qquad
# \frac{\mathrm d\varsigma}{\mathrm d t} = \frac{1}{(1-t)^2}, \qquad\text{so}\qquad
# \frac{\mathrm d y}{\mathrm d\varsigma} = \hat\varepsilon .$$
#
# It is the same ODE. **Flow matching with normal noise on a straight path, and diffusion with DDIM, are one
# method in two notations.** So where do "straight" paths leave a mark? Not in the curves that
# samples follow: those are the same up to contrast, and you saw them bend.
#
# ### The loss is the same as well
#
# Lesson 03 drew signal and noise as two axes. With $\cos\varphi = \sqrt{\bar\alpha} = (1-t)/c$ and
# $\sin\varphi = t/c$, state and target are the two rotated axes
#
# $$x = \cos\varphi\;x_0 + \sin\varphi\;\varepsilon, \qquad v = \cos\varphi\;\varepsilon - \sin\varphi\;x_0 ,$$
#
# and rotated back, $\varepsilon = \sin\varphi\,x + \cos\varphi\,v$ and $x_0 = \cos\varphi\,x - \sin\varphi\,v$. Subtract:
#
# $$u = \varepsilon - x_0 = (\cos\varphi + \sin\varphi)\,v + (\sin\varphi - \cos\varphi)\,x
# = \frac{v + (2t-1)\,x}{c} .$$
#
# The network is *given* $x$, so only $v$ can be wrong, and an error in $v$ becomes $1/c$ times as large in $u$. The
# squared error of $u$ is the squared error of $v$, with the weight $1/c^2$ between 1 and 2.
#
# There is more. From $\tan\varphi = t/(1-t)$ follows $\mathrm d\varphi/\mathrm d t = 1/c^2$. That is the same weight:
#
# $$\int_0^1 \|\hat u - u\|^2\,\mathrm d t = \int_0^1 \frac{\|\hat v - v\|^2}{c^2}\,\mathrm d t
# = \int_0^{\pi/2} \|\hat v - v\|^2\,\mathrm d\varphi .$$
#
# And the cosine schedule of lesson 02 is the one in which $\varphi$ grows evenly with the step. So **the flow loss
# with uniform $t$ is the $v$ loss under the cosine schedule**, term for term, up to a constant factor. The two
# differ in how often a noise level is drawn and how much a draw then counts, and only their product matters
# to the expectation. Let us check on the ring, with a predictor that is wrong on purpose.

# %%
x0 = ring[torch.randint(5, (500,), generator=generator)]
eps = torch.randn(500, 2, generator=generator)


def v_hat(x: Tensor, angle: Tensor) -> Tensor:
    """Some predictor of v, and not a good one."""
    return torch.tanh(2 * x) * angle.cos()


def errors(t: Tensor) -> tuple[float, float]:
    """The squared errors of u and of v, at one moment of the path."""
    c, angle = path_scale(t), torch.atan2(t, 1 - t)
    xt = straight_path(x0, t.expand(500), eps)
    v = angle.cos() * eps - angle.sin() * x0
    u_hat = (v_hat(xt / c, angle) + (2 * t - 1) * xt / c) / c
    return F.mse_loss(u_hat, eps - x0).item(), F.mse_loss(v_hat(xt / c, angle), v).item()


# %%
evenly = (torch.arange(400) + 0.5) / 400
over_t = sum(errors(t)[0] for t in evenly) / 400

angles = evenly * torch.pi / 2
over_angle = sum(errors(a.sin() / (a.sin() + a.cos()))[1] for a in angles) / 400
print(f"flow loss, uniform in t: {over_t:.2f}")
print(f"pi/2 times the v loss, uniform in the angle: {torch.pi / 2 * over_angle:.2f}")

# %% [markdown]
# ### Which times to train on
#
# So the distribution from which $t$ is drawn is a dial of its own, for flows and diffusions alike. Near $t = 1$
# the best answer is close to $x_t - \mathbb E[x_0]$, and near $t = 0$ it is $-x_t$ plus a noise that can hardly be seen in $x_t$.
# Both ends are soon learned, or cannot be learned. The work is in the middle. Stable Diffusion 3 (Esser et al.
# 2024) therefore draws times whose *logit* is normal:
#
# $$\log\frac{t}{1-t} \sim \mathcal N(m, s^2), \qquad\text{that is}\qquad t = \operatorname{sigmoid}(m + s z),
# \quad z \sim \mathcal N(0, 1).$$
#
# ### Exercise: logit-normal times

# %% exercise="flow_matching.logit_normal" lines=1
# %%
logit_normal = check(logit_normal)

# %% [markdown]
# The mean moves the weight towards the data or the noise, and the standard deviation spreads it. Look at the
# ends of the curves: all of them go to 0 there, so that the extreme times are hardly ever trained. A wide one
# like the orange gives up least. The recipes of this course draw their times with a standard deviation of 1.3.

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.8))
for mean, std in [(0.0, 1.0), (0.0, 1.3), (1.0, 1.0), (-1.0, 1.0)]:
    t = logit_normal(400_000, mean, std, generator)
    heights = torch.histc(t, bins=100, min=0, max=1) / 4000
    axis.plot((torch.arange(100) + 0.5) / 100, heights, label=f"mean {mean:g}, std {std:g}")
axis.axhline(1, color="grey", linestyle=":", label="uniform")
axis.set(xlabel="t (0 = data, 1 = noise)", ylabel="density")
axis.legend(loc="upper left", bbox_to_anchor=(1, 1));

# %% [markdown]
# ## Digits
#
# The network is the UNet of lesson 03, unchanged. Only one thing needs care: **its clock**. The time embedding was
# made for steps from 0 to 999, and its fastest wave turns by one radian per step. If it were told $t$ in [0, 1],
# all its waves would stand almost still, and $t = 0.5$ and $t = 0.51$ would look alike. So it is told $1000\,t$.

# %% inline="flow_matching.as_velocity"
# %% [markdown]
# A short run, live: a small network, 140 steps. Compare with lesson 03: the loop is the same, and `draw` and
# `loss_fn` are the whole difference.

# %% tags=["nbval-ignore-output"]
def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    x0 = images[batch_indices(len(images), 32, step)]
    return x0, logit_normal(32, 0.0, 1.3, generator), torch.randn(x0.shape, generator=generator)


def loss_fn(model: UNet, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return flow_loss(as_velocity(model), x0, t, eps)


torch.manual_seed(0)
live = TrainState.start(UNet(channels=(16, 32)))
reports = list(tqdm(train(live, draw, loss_fn, steps=140, lr=3e-3), total=140))

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.8))
axis.plot(range(1, 141), [report.loss for report in reports])
axis.set(xlabel="step", ylabel="flow loss", ylim=(0, 2));

# %% [markdown]
# It begins near 1.9. A network that says 0 has the loss $\mathbb E\|\varepsilon - x_0\|^2 = 1 + \mathbb E[x_0^2]$ per pixel, and
# most pixels of a digit are at $-1$. Then it falls, and lies down far above 0, as it must.
#
# The weights that ship with the course had many more steps. Their recipe copies that of `mnist-ddpm`: the same
# network, the same batches in the same order with the same noise, the same draw of the time, the same learning rate, and
# as many steps. Only the path and the target differ. `python -m course train mnist-flow` makes them again.

# %%
def shipped(name: str) -> UNet:
    network = load_weights(UNet(**card(name)["config"]), name)
    return network.to(memory_format=torch.channels_last)


velocity = as_velocity(shipped("mnist-flow"))
noise = torch.randn(48, 1, 28, 28, generator=generator)
*trajectory, x0 = flow_sample(velocity, noise, steps=30)
plots.grid(x0, columns=12).resize((726, 244))

# %% [markdown]
# Eight of them on their way, and then one of them as a strip: above is $x_t$, and below is $\hat x_0$, where the
# path would end if it went on straight from there. The top row pales in the middle, as it should. Watch the
# bottom row start from the grey smudge that the *Think* box promised, and then make up its mind.

# %% tags=["nbval-ignore-output"]
walk = [noise, *trajectory, x0]
plots.animate([x[:8] for x in walk], columns=4, frames=25)

# %%
picks = [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]
t = torch.tensor([1 - k / 30 for k in picks])
xt = torch.cat([walk[k][2:3] for k in picks])
with torch.no_grad():
    x0_hat, _ = predict_both(xt, t, velocity(xt, t))
plots.show(torch.cat([xt, x0_hat]), [f"t = {time:.1f}" for time in t] + [""] * 10, columns=10, size=0.8);

# %% [markdown]
# ### Two networks, one ODE
#
# Theory says that `mnist-flow` and `mnist-ddpm` learn the same ODE. Then from the same noise they should draw the
# *same digit*, although they are two networks with different weights, trained on different targets. Above: the flow,
# by Euler. Below: the diffusion, by DDIM of lesson 04. Go through the columns. Where the two networks learned
# well, you will see one digit twice. Where they differ, it is by their errors alone.

# %%
diffusion = as_eps_model(shipped("mnist-ddpm"), alpha_bars, "v")
*_, by_flow = flow_sample(velocity, noise[:12], steps=50)
*_, by_ddim = sample(diffusion, noise[:12], alpha_bars, steps=50, clip=False)
plots.show(torch.cat([by_flow, by_ddim]), columns=12, size=0.7,
           title="the same noise · above: mnist-flow, Euler · below: mnist-ddpm, DDIM");

# %% [markdown]
# ### At equal cost
#
# What counts is network calls. The same ten noises with 3, 9 and 25 calls, three rows for each number: Euler and
# Heun on the flow, and DDIM on the diffusion. (Heun makes an odd number of calls, so all of them do.) Look first
# at the three rows on top: all of them blur, though not alike. Then go down a column, and find the row from which on
# nothing changes any more for its network.

# %%
walks: dict[str, Callable[[Tensor, int], Iterator[Tensor]]] = {
    "flow, Euler": lambda x, calls: flow_sample(velocity, x, steps=calls),
    "flow, Heun": lambda x, calls: flow_sample(velocity, x, steps=(calls + 1) // 2, method="heun"),
    "diffusion, DDIM": lambda x, calls: sample(diffusion, x, alpha_bars, steps=calls),
}

rows = [(n, name, list(walk(noise[:10], n))[-1]) for n in [3, 9, 25] for name, walk in walks.items()]
figure = plots.show(torch.cat([x for *_, x in rows]), columns=10, size=0.7)
for axis, (n, name, _) in zip(figure.axes[::10], rows, strict=True):
    axis.set_title(f"{n} calls: {name}", fontsize=8, loc="left")

# %% [markdown]
# Now measured, by the Fréchet distance of lesson 04, with $N = 100$ samples a point, and the floor of 100 real
# images as the dashed line. A fourth walk joins: Heun on the *diffusion*, seen as a velocity. Heun's method, after
# all, is a way to follow an ODE, and belongs to nobody. The full measurement, with $N = 1000$ at 5, 10, 20 and 50
# calls, is made by `python -m tests.benchmarks flow`.
#
# One thing must be known before the curves are read: how long each network was *trained*. Equal calls compare
# solvers; two networks are compared fairly only after equally many steps.

# %%
for name in ("mnist-flow", "mnist-ddpm"):
    print(f"{name}: {card(name)['steps']:,} training steps")

# %%
as_flow = eps_as_flow(diffusion, alpha_bars)
walks["diffusion, Heun"] = lambda x, calls: flow_sample(
    as_flow, x, steps=(calls + 1) // 2, method="heun"
)
judge, N = metrics.load_judge(), 100
real = metrics.fit_gaussian(metrics.judge_features(judge, images[:10_000]))


def distance(x: Tensor) -> float:
    return metrics.frechet_distance(metrics.judge_features(judge, x.clamp(-1, 1)), real)


# %%
many, counts = torch.randn(N, 1, 28, 28, generator=generator), [3, 5, 11]
curves = {name: [distance(list(walk(many, n))[-1]) for n in counts] for name, walk in walks.items()}
floor = sum(distance(x) for x in mnist("test")[0][: 10 * N].split(N)) / 10

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
for name, found in curves.items():
    axis.loglog(counts, found, "o-" if "flow" in name else "s--", label=name)
axis.axhline(floor, color="grey", linestyle=":", label=f"{N} real images")
axis.set(xlabel="network calls", ylabel=f"Fréchet distance, N = {N}", title="lower is better")
axis.minorticks_off()
axis.set_xticks(counts, [str(n) for n in counts])
ticks = [n for n in (50, 100, 200, 400, 800) if n < 1.2 * max(map(max, curves.values()))]
axis.set_yticks(ticks, [str(n) for n in ticks])
axis.legend(loc="upper left", bbox_to_anchor=(1, 1));

# %% [markdown]
# Read it with the toy in mind, in two questions.
#
# *Which solver?* Compare the two curves of each network. With three calls Heun has only two steps, and gains
# little or loses. With more, its second slopes pay, on the flow and on the diffusion alike.
#
# *Which network?* Compare solid with dashed. Euler and DDIM are one method, so whatever lies between those two
# curves comes from elsewhere: from the times that are visited (equal steps of $t$, or of the cosine's angle), from DDIM's
# clipping, and above all from what each network has learned: where the steps printed above differ, that is the
# reason to look at first, and no verdict on flows. Towards the right, the curves lie down on the errors of
# their networks, and no solver can go below those.
#
# <details><summary><b>Think:</b> then what is all the praise of "straight paths" about?</summary>
#
# Three things, all real. The formulation is *simple*: no schedule, no roots, a target of the same size at every $t$.
# Its default choices (uniform $t$, target $\varepsilon - x_0$) happen to be good ones, and many older
# diffusion defaults were not. And it is *more general*: nothing in the two proofs needed $\varepsilon$ to be normal,
# or independent of $x_0$. One may pair images with images, or pair each noise with the data that a first flow
# sends it to. With such pairs, paths no longer cross much, the marginal velocity is nearly the conditional one, and the
# walked paths really become straight: a handful of steps is then enough. That is *rectified flow*, or reflow (Liu et
# al. 2023). With independent pairs, as here, straight is what the paths of the pairs are, not what is walked.
# </details>
#
# ## Beside the library
#
# `diffusers` has our Euler as `FlowMatchEulerDiscreteScheduler`. Its `sigmas` are our times, and its model output is
# $\varepsilon - x_0$, with time in the same direction. Its own timesteps end at $\sigma = 1/1000$, so we hand it ours.

# %%
import numpy as np
from diffusers import FlowMatchEulerDiscreteScheduler

scheduler = FlowMatchEulerDiscreteScheduler()
scheduler.set_timesteps(sigmas=np.linspace(1, 0, 11)[:-1])
network = shipped("mnist-flow")

x = noise[:4]
with torch.no_grad():
    for now in scheduler.timesteps:  # these are 1000 · t: the network's clock
        x = scheduler.step(network(x, now.expand(4)), now, x).prev_sample
*_, ours = flow_sample(velocity, noise[:4], steps=10)
print("the same images to 1e-4:", bool((ours - x).abs().max() < 1e-4))

# %% [markdown]
# ## Recap
# 1. The straight path $x_t = (1-t)x_0 + t\varepsilon$ has the velocity $\varepsilon - x_0$. Time runs from data (0) to noise (1), and
#    sampling runs back.
# 2. Paths cross, so a network learns the mean velocity $u = \mathbb E[\varepsilon - x_0 \mid x_t]$. It carries the whole crowd from noise
#    to data, and regression on single pairs has the gradient of regression on $u$.
# 3. Euler: one call a step, error like $h$. Heun: two calls a step, error like $h^2$, which pays once the steps are small.
# 4. A flow's state over $c$ is a diffusion's. Euler on the straight path is DDIM, step for step, and the flow loss with
#    uniform $t$ is the $v$ loss under the cosine schedule.
# 5. What is left to choose: which $t$ to train on, which times to visit, which solver, and how to pair.
#
# **What can go wrong.** Time the wrong way round, in the path, the target or the sampler, but not in all three. The sign of the
# target. A step $t - s$ for $s - t$. The network told $t$ where its clock expects $1000\,t$. Heun's second slope
# at the old point, or at the old time. Points averaged where slopes should be. Heun at $t = 0$. Heun's steps compared with
# Euler's steps, instead of calls with calls. A `(b,)` time against `(b, c, h, w)` images. A diffusion's image given
# to a flow at the wrong contrast.
#
# **Read on.** Lipman et al., *Flow Matching for Generative Modeling* (arXiv 2210.02747). Liu, Gong & Liu, *Flow Straight
# and Fast* (arXiv 2209.03003), for rectified flow and reflow. Albergo & Vanden-Eijnden, *Building Normalizing Flows with
# Stochastic Interpolants* (arXiv 2209.15571). Esser et al., *Scaling Rectified Flow Transformers* (arXiv 2403.03206), for
# Stable Diffusion 3 and logit-normal times. Karras et al. (arXiv 2206.00364) for Heun's method in diffusion. Kingma & Gao,
# *Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation* (arXiv 2303.00848), for losses as
# weightings. Gao et al., *Diffusion Meets Flow Matching: Two Sides of the Same Coin* (diffusionflow.github.io). To watch: the
# lecturer's video *Diffusion Models and Flow Matching* on the channel JWAI (youtube.com/watch?v=lMNHTwFSGRY).
