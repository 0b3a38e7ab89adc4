# %% [markdown]
# # 03 · Training: a network that sees the noise
#
# **After this lesson you can**
# - derive the loss of a DDPM, from the likelihood of the data down to one line of code, and say what
#   was dropped on the way;
# - build its network, a small UNet, from a time embedding, residual blocks and attention, and count
#   what each part costs;
# - write a training loop with an average of the weights, one that can stop and go on bit for bit, and
#   read its loss without being fooled by it.
#
# **Time** about 120 minutes; two good places to pause are marked. **Needs** lesson 02, PyTorch modules
# and autograd, and the Kullback–Leibler divergence (we recall what it says).

# %%
import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm.auto import tqdm

from course import plots
from course.checks import check, hint
from course.data import mnist
from course.forward_process import (
    alpha_bars_from_betas,
    at,
    cosine_schedule,
    linear_schedule,
    q_sample,
)
from course.training import batch_indices, mean_loss, own_share, v_loss
from course.weights import card, load_weights

plots.set_style()

# %% [markdown]
# ## How do we train a DDPM?
#
# Lesson 02 built the bridge from data to noise. Its steps $q(x_t \mid x_{t-1})$ are fixed: they add a
# little noise and have nothing to learn. To *make* data we must walk the other way, from $x_T$, which
# is noise, to $x_0$. Nobody gives us those steps, so we let a network with weights $\theta$ propose
# them:
#
# $$\underbrace{x_T}_{\mathcal N(0, I)}
# \;\xrightarrow{\;p_\theta(x_{T-1}\mid x_T)\;}\; x_{T-1}
# \;\longrightarrow\;\cdots\;\longrightarrow\; x_1
# \;\xrightarrow{\;p_\theta(x_0\mid x_1)\;}\; x_0,
# \qquad
# p_\theta(x_{t-1}\mid x_t) = \mathcal N\big(x_{t-1};\, \mu_\theta(x_t, t),\, \sigma_t^2 I\big).$$
#
# Why is a Gaussian enough? If a forward step adds very little noise, then undoing it is a small
# correction too, and for small corrections the Gaussian is the right shape. This is why there are so
# many steps.
#
# Training should make real images likely under this walk. So the question of this lesson is: *which
# loss does that, and can we compute it?* The answer will be surprisingly short. Noise an image, let
# the network guess the noise, and square the error.
#
# **How we count.** In formulas, as in the papers, the noisy images are $x_1, \dots, x_T$, and $x_0$ is the
# data. In code, arrays start at 0: the papers' step $t$ is index `t - 1`, and `t` runs over 0 … T−1.
#
# ## From the likelihood to a sum of simple terms
#
# ### A bound instead of the likelihood
#
# We would like to minimise $-\log p_\theta(x_0)$, averaged over the data. But $p_\theta(x_0)$ is an
# integral over every path that ends in $x_0$:
#
# $$p_\theta(x_0) = \int p_\theta(x_{0:T})\, dx_{1:T}, \qquad
# p_\theta(x_{0:T}) = p(x_T)\prod_{t=1}^{T} p_\theta(x_{t-1}\mid x_t).$$
#
# Nobody can integrate over all paths. We can, however, *sample* sensible paths: the forward process
# makes them. Multiply and divide by its density, so that the integral becomes an average over forward
# paths $x_{1:T} \sim q(\cdot \mid x_0)$, then move the logarithm inside (Jensen's inequality, because
# $-\log$ is convex):
#
# $$-\log p_\theta(x_0)
# = -\log\, \mathbb E_q\!\left[\frac{p_\theta(x_{0:T})}{q(x_{1:T}\mid x_0)}\right]
# \;\le\; \mathbb E_q\!\left[\log\frac{q(x_{1:T}\mid x_0)}{p_\theta(x_{0:T})}\right] =: \text{VLB}.$$
#
# The right-hand side is the *variational bound*; its negative is called the **ELBO**, the evidence lower
# bound. Making the bound small makes the data likely.
#
# ### The bound falls apart into steps
#
# Both densities are products over steps, but they run in opposite directions. We turn $q$ round with
# Bayes' rule. For $t \ge 2$, because $x_{t-1}$ tells $x_t$ all that $x_0$ could tell it,
#
# $$q(x_t \mid x_{t-1}) = q(x_t\mid x_{t-1}, x_0) =
# q(x_{t-1}\mid x_t, x_0)\;\frac{q(x_t\mid x_0)}{q(x_{t-1}\mid x_0)}.$$
#
# In the product over $t$ the fractions cancel like a telescope, all but the last numerator:
#
# $$q(x_{1:T}\mid x_0) = q(x_1\mid x_0)\prod_{t=2}^{T} q(x_t\mid x_{t-1})
# = q(x_T \mid x_0)\prod_{t=2}^{T} q(x_{t-1}\mid x_t, x_0).$$
#
# Put this into the bound, and each factor of $q$ meets one factor of $p_\theta$. An average of
# $\log(q/p)$ over draws of $q$ is a Kullback–Leibler divergence $D_\text{KL}(q \,\|\, p)$: how badly $p$
# imitates $q$, 0 when they are equal and positive otherwise. So
#
# $$\text{VLB} =
# \underbrace{D_\text{KL}\big(q(x_T\mid x_0)\,\|\,p(x_T)\big)}_{L_T} +
# \sum_{t=2}^{T}\underbrace{\mathbb E_q\, D_\text{KL}\big(q(x_{t-1}\mid x_t, x_0)\,\|\,
# p_\theta(x_{t-1}\mid x_t)\big)}_{L_{t-1}}
# \;\underbrace{-\,\mathbb E_q \log p_\theta(x_0\mid x_1)}_{L_0}.$$
#
# - $L_T$ asks whether the end of the forward process is really noise. There is no $\theta$ in it: it is
#   the schedule's business, and lesson 02 saw to it.
# - $L_{t-1}$ asks the network to imitate the step back that one would take *if one knew* $x_0$. The
#   network does not know $x_0$; it must do as well as it can from $x_t$.
# - $L_0$ asks for the last step, from almost clean to clean.
#
# ### Two Gaussians
#
# Everything inside these KLs is Gaussian, and all covariances are multiples of $I$, so that pixels can be
# treated one by one and their divergences added up. For one of them write out $\log q/p$ and average it with
# $\mathbb E_q (x-m_q)^2 = v_q$ and $\mathbb E_q(x-m_p)^2 = v_q + (m_q-m_p)^2$:
#
# $$D_\text{KL}\big(\mathcal N(m_q, v_q)\,\|\,\mathcal N(m_p, v_p)\big)
# = \tfrac12\Big[\log\frac{v_p}{v_q} + \frac{v_q}{v_p} - 1 + \frac{(m_q-m_p)^2}{v_p}\Big].$$
#
# By hand: from $\mathcal N(0, 1)$ to $\mathcal N(1, 1)$ the first three terms vanish and
# $\tfrac12\cdot 1^2 = 0.5$ is left. From $\mathcal N(0, 1)$ to $\mathcal N(0, 4)$ it is
# $\tfrac12(\log 4 + \tfrac14 - 1) = 0.32$. Let us compare with what the definition says, an average of
# $\log q/p$ over many draws of $q$.

# %%
def log_normal(x: Tensor, mean: Tensor | float, var: Tensor | float) -> Tensor:
    """The log density of N(mean, var) at x."""
    var = torch.as_tensor(var, dtype=torch.float64)
    return -0.5 * (torch.log(2 * math.pi * var) + (x - mean) ** 2 / var)


generator = torch.Generator().manual_seed(0)
x = torch.randn(1_000_000, generator=generator, dtype=torch.float64)  # draws of q = N(0, 1)
for m_p, v_p in [(1.0, 1.0), (0.0, 4.0)]:
    closed = 0.5 * (math.log(v_p) + 1 / v_p - 1 + m_p**2 / v_p)
    simulated = (log_normal(x, 0, 1) - log_normal(x, m_p, v_p)).mean()
    print(f"KL from N(0, 1) to N({m_p:.0f}, {v_p:.0f}):  {closed:.2f}, simulated {simulated:.2f}")

# %% [markdown]
# ### What one term asks for
#
# The step back with known $x_0$ is the product of two Gaussians in $x_{t-1}$: one says where $x_{t-1}$
# lies given $x_0$, with variance $1-\bar\alpha_{t-1}$, and one says which $x_{t-1}$ leads to $x_t$. In a
# product of Gaussians the precisions (one over the variance) add up, and the means are averaged with
# the precisions as weights. Lesson 04 goes through it line by line; the result is
# $q(x_{t-1}\mid x_t, x_0) = \mathcal N(\tilde\mu_t, \tilde\beta_t I)$ with
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 +
# \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t,
# \qquad
# \tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t .$$
#
# We fix the network's variances too, say $\sigma_t^2 = \beta_t$, as DDPM does. Then only the means are
# left to learn, and the formula for the KL says
#
# $$L_{t-1} = \mathbb E_q\left[\frac{1}{2\sigma_t^2}\,\big\|\tilde\mu_t - \mu_\theta(x_t, t)\big\|^2\right] +
# \text{something without } \theta .$$
#
# ### Predicting the noise
#
# The network could output $\mu_\theta$ directly. But it is *given* $x_t$, and $\tilde\mu_t$ is mostly
# $x_t$. It is better to ask only for what it does not know. Lesson 02 gave us
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$, so
# $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$. Put this into $\tilde\mu_t$. With
# $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$, the factor of $x_t$ becomes
#
# $$\frac{\beta_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# = \frac{1-\alpha_t + \alpha_t - \bar\alpha_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}},$$
#
# and the factor of $\varepsilon$ is $-\beta_t/\big(\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}\big)$. So
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\Big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\varepsilon\Big).$$
#
# The only unknown is $\varepsilon$. We let the network predict it, call its output
# $\varepsilon_\theta(x_t, t)$, and build $\mu_\theta$ by the same formula. In the difference of the means
# $x_t$ cancels, and
#
# $$L_{t-1} = \mathbb E\Big[\,w_t\,\big\|\varepsilon - \varepsilon_\theta(x_t, t)\big\|^2\Big] + \text{const},
# \qquad w_t = \frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)} .$$
#
# $L_0$ has the same form with $t = 1$: there $\tilde\mu_1$ is $x_0$ itself. The whole bound is a weighted
# sum of *how well can you tell the noise in $x_t$*.
#
# ### A world where all of this is known
#
# A derivation of this length deserves a test. Take the smallest world there is: the data are single
# numbers from $\mathcal N(m, s^2)$, and the bridge has $T = 5$ steps. Now $x_t$ is Gaussian too, with
# variance $\bar\alpha_t s^2 + 1 - \bar\alpha_t$, and the best guess of the noise that anybody can make from
# $x_t$ is the conditional mean, a straight line in $x_t$:
#
# $$\varepsilon^*(x_t, t) = \mathbb E[\varepsilon\mid x_t] = \frac{\sqrt{1-\bar\alpha_t}}{\bar\alpha_t s^2 + 1-\bar\alpha_t}
# \,(x_t - \sqrt{\bar\alpha_t}\,m),
# \qquad
# \mathbb E(\varepsilon-\varepsilon^*)^2 = \frac{\bar\alpha_t s^2}{\bar\alpha_t s^2 + 1-\bar\alpha_t}.$$
#
# The second formula is one minus the share of $x_t$'s variance that is noise. With it every term of the
# bound is known.

# %%
def bound(betas: Tensor, m: float, s: float) -> tuple[Tensor, Tensor, Tensor]:
    """L_T, [L_1, …, L_{T−1}] and L_0 for data N(m, s²) and the best noise predictor."""
    alphas, alpha_bars = 1 - betas, (1 - betas).cumprod(0)
    before = F.pad(alpha_bars, (1, 0), value=1.0)[:-1]  # ᾱ_{t−1}, and 1 for the data
    beta_tilde = betas * (1 - before) / (1 - alpha_bars)
    error = alpha_bars * s**2 / (alpha_bars * s**2 + 1 - alpha_bars)  # E(ε − ε*)²
    weight = betas / (2 * alphas * (1 - alpha_bars))  # w_t with σ² = β

    end = 0.5 * (alpha_bars[-1] * (m**2 + s**2 - 1) - torch.log(1 - alpha_bars[-1]))
    variances = 0.5 * (torch.log(betas / beta_tilde) + beta_tilde / betas - 1)
    start = 0.5 * torch.log(2 * math.pi * betas[0]) + (weight * error)[0]
    return end, (variances + weight * error)[1:], start


m, s = 0.5, 0.4
betas = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)
end, between, start = bound(betas, m, s)
entropy = 0.5 * math.log(2 * math.pi * math.e * s**2)
print(f"L_T {end:.2f}   L_4…L_1 {between.flip(0).numpy().round(2)}   L_0 {start:.2f}")
print(f"the bound {end + between.sum() + start:.2f}, the entropy of the data {entropy:.2f}")

# %% [markdown]
# The entropy is the smallest average of $-\log p(x_0)$ that *any* model can reach, so the bound must lie
# above it, and it does.
#
# Are the terms right? Now we do not trust a single formula for a KL. We draw 200,000 data, walk each
# through the five noising steps, and average $\log q/p$ along the walks.

# %%
alphas, alpha_bars = 1 - betas, (1 - betas).cumprod(0)
before = F.pad(alpha_bars, (1, 0), value=1.0)[:-1]
fresh = torch.randn(6, 200_000, generator=generator, dtype=torch.float64)

x = [m + s * fresh[0]]  # x[0] is the data, x[t] the papers' x_t
for t in range(1, 6):
    x.append(torch.sqrt(alphas[t - 1]) * x[-1] + torch.sqrt(betas[t - 1]) * fresh[t])


def model_mean(t: int) -> Tensor:
    """μ_θ(x_t, t) with the best noise predictor; t as in the papers."""
    i = t - 1
    noise = 1 - alpha_bars[i]
    best = noise.sqrt() / (alpha_bars[i] * s**2 + noise) * (x[t] - alpha_bars[i].sqrt() * m)
    return (x[t] - betas[i] / noise.sqrt() * best) / alphas[i].sqrt()


# %%
walked = [-log_normal(x[0], model_mean(1), betas[0]).mean()]  # L_0
for t in range(2, 6):
    i = t - 1
    known = before[i].sqrt() * betas[i] * x[0] + alphas[i].sqrt() * (1 - before[i]) * x[t]
    beta_tilde = betas[i] * (1 - before[i]) / (1 - alpha_bars[i])
    q = log_normal(x[t - 1], known / (1 - alpha_bars[i]), beta_tilde)
    walked.append((q - log_normal(x[t - 1], model_mean(t), betas[i])).mean())
q = log_normal(x[5], alpha_bars[4].sqrt() * x[0], 1 - alpha_bars[4])
walked.append((q - log_normal(x[5], 0, 1)).mean())  # L_T

closed = torch.cat([start[None], between, end[None]])
print("simulation and formulas agree to 0.01:", bool((torch.stack(walked) - closed).abs().max() < 0.01))

# %% [markdown]
# Two figures. On the left, look whether the dots of the simulation sit on the ends of the bars. On the
# right the five steps become 1000, with the schedules of lesson 02. Look at the gap between the bound and
# the entropy: the more steps, the smaller it is. With many small steps Gaussian steps back lose almost
# nothing, as promised above.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
names = ["$L_0$", "$L_1$", "$L_2$", "$L_3$", "$L_4$", "$L_T$"]
left.bar(names, closed, color=plots.COLOURS[5], label="formula")
left.plot(names, walked, "o", color=plots.COLOURS[1], label="simulation")
left.set(title="the terms of the bound, T = 5", ylabel="nats")
left.legend()

lengths = [5, 10, 20, 50, 100, 200, 500, 1000]
for name, schedule in [("linear", linear_schedule), ("cosine", cosine_schedule)]:
    totals = [sum(part.sum() for part in bound(schedule(T).double(), m, s)) for T in lengths]
    right.loglog(lengths, [float(total) - entropy for total in totals], "o-", label=name)
right.set(title="how far the bound is above the entropy", xlabel="T", ylabel="nats")
right.legend();

# %% [markdown]
# <details><summary><b>Think:</b> with five steps of the linear schedule the bound is poor. Which term is
# to blame?</summary>
#
# $L_T$. The linear schedule's β are made for 1000 steps: after five of them $\bar\alpha_T$ is still about
# 0.95, so $x_T$ is nearly data and not noise at all. The cosine schedule stretches with $T$ and ends at
# noise for every $T$.
# </details>
#
# ## The simple loss: dropping the weights
#
# So the bound is $\sum_t w_t\,\mathbb E\|\varepsilon - \varepsilon_\theta\|^2$ plus a constant. Ho, Jain and
# Abbeel then did something bold: they set every $w_t$ to 1, and drew $t$ at random instead of summing:
#
# $$L_\text{simple} = \mathbb E_{t,\,x_0,\,\varepsilon}\,
# \Big\|\varepsilon - \varepsilon_\theta\big(\underbrace{\sqrt{\bar\alpha_t}\,x_0 +
# \sqrt{1-\bar\alpha_t}\,\varepsilon}_{x_t},\; t\big)\Big\|^2 .$$
#
# What does that change? The figure shows the weights that were dropped. Look at the left end: the bound
# cares most about the first few steps, where the noise is too faint to see, because that is where the
# last bits of likelihood are. The simple loss cares less about those and more about the large shapes in
# the middle, which is what our eyes care about. And look at the right end of the cosine schedule, where
# the last steps are enormous: we come back to it.

# %%
schedules = {"linear": linear_schedule(), "cosine": cosine_schedule()}
figure, axis = plt.subplots()
for name, schedule in schedules.items():
    weights = schedule / (2 * (1 - schedule) * (1 - alpha_bars_from_betas(schedule)))
    axis.semilogy(weights, label=name)
axis.axhline(1, color="grey", linestyle="--", label="simple loss")
axis.set(xlabel="t", ylabel="weight of the squared error")
axis.legend();

# %% [markdown]
# ### Exercise: the simple loss
#
# Given images $x_0$, step numbers, and the noise to use, make $x_t$ with lesson 02's `q_sample`, ask the
# model, and return the mean squared error. Take the mean over *every* element, so that the loss does not
# depend on the batch's size or the image's. (The bound sums over pixels. A constant factor only rescales
# the learning rate.)

# %% exercise="training.simple_loss" lines=2
# %%
simple_loss = check(simple_loss)

# %% [markdown]
# Stuck anywhere in this lesson? `hint(simple_loss)` tells a little more each time you call it.
#
# Now use it. In the Gaussian world we know the best predictor and its loss. The figure compares the
# loss as you compute it (dots) with the closed form (line), for each $t$ of the cosine schedule. Look at
# which $t$ are hard: almost clean images are the *hardest*. Their noise is too faint to make out, and
# even the best predictor does no better than one that always says 0 (dashed).

# %%
T = 1000
alpha_bars = alpha_bars_from_betas(cosine_schedule(T))


def best_eps(xt: Tensor, t: Tensor) -> Tensor:
    """E[ε | x_t] for data N(m, s²)."""
    alpha_bar = at(alpha_bars, t, xt)
    variance = alpha_bar * s**2 + 1 - alpha_bar
    return torch.sqrt(1 - alpha_bar) / variance * (xt - torch.sqrt(alpha_bar) * m)


toy_x0 = m + s * torch.randn(50_000, 1, 1, 1, generator=generator)
toy_eps = torch.randn(toy_x0.shape, generator=generator)
some_t = [*range(0, T, 40), T - 1]
all_at = {t: torch.full((len(toy_x0),), t) for t in some_t}
losses = [simple_loss(best_eps, toy_x0, t, toy_eps, alpha_bars) for t in all_at.values()]

figure, axis = plt.subplots()
axis.plot(alpha_bars * s**2 / (alpha_bars * s**2 + 1 - alpha_bars), label="closed form")
axis.plot(some_t, losses, "o", label="your simple_loss")
axis.axhline(1, color="grey", linestyle="--", label="always say 0")
axis.set(xlabel="t", ylabel="loss of the best predictor")
axis.legend();

# %% [markdown]
# ## What should the network predict?
#
# At the noisy end the loss above is almost 0. Is the task really so easy there? Yes, and that is a
# warning: $x_t$ is nearly all noise, so *copying the input* is a fine prediction of the noise. A network
# earns a low loss there without knowing anything about images.
#
# But sampling starts at that end, and it needs an idea of the *image*. Solve the closed form for it:
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon}{\sqrt{\bar\alpha_t}} .$$
#
# This divides by $\sqrt{\bar\alpha_t}$. The figure shows $1/\sqrt{\bar\alpha_t}$, the factor by which an error in
# $\hat\varepsilon$ grows in $\hat x_0$. Look at the last steps: under the linear schedule it reaches 157;
# under the cosine schedule it is small for longer, and ends at 20,000.

# %%
figure, axis = plt.subplots()
for name, schedule in schedules.items():
    axis.semilogy(1 / torch.sqrt(alpha_bars_from_betas(schedule)), label=name)
axis.set(xlabel="t", ylabel=r"$1/\sqrt{\bar\alpha_t}$")
axis.legend();

# %% [markdown]
# ### Three views of one thing
#
# Nothing forces us to predict $\varepsilon$. Whoever knows $x_t$ and one of $\varepsilon$ and $x_0$ knows
# the other. To see it well, note that the squares of $\sqrt{\bar\alpha_t}$ and $\sqrt{1-\bar\alpha_t}$ add up to
# 1, so they are the cosine and sine of an angle $\varphi_t$, which runs from 0 (clean) to 90° (noise):
#
# $$x_t = \cos\varphi\; x_0 + \sin\varphi\;\varepsilon .$$
#
# Call its derivative with respect to the angle the **velocity**:
#
# $$v = \frac{dx_t}{d\varphi} = \cos\varphi\;\varepsilon - \sin\varphi\; x_0
# = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0 .$$
#
# So $(x_t, v)$ is $(x_0, \varepsilon)$ turned by $\varphi$. Turning back gives both from $x_t$ and $v$, and
# *nothing is divided by anything*:
#
# $$x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v, \qquad
# \varepsilon = \sqrt{1-\bar\alpha_t}\,x_t + \sqrt{\bar\alpha_t}\,v .$$
#
# In the figure one pixel has $x_0 = 0.9$ and $\varepsilon = 0.5$. Its point stays where it is; it is the
# axes that turn with $t$. Look at the last picture: when $x_t$ is nearly $\varepsilon$, the other axis is
# nearly $-x_0$, just what the network should be asked for.

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 3), layout="constrained")
for axis, degrees in zip(axes, [10, 45, 80], strict=True):
    angle = math.radians(degrees)
    cos, sin = math.cos(angle), math.sin(angle)
    for name, (x, y), colour in [("$x_t$", (cos, sin), 1), ("$v$", (-sin, cos), 2)]:
        axis.annotate("", (1.2 * x, 1.2 * y), (0, 0), arrowprops={"arrowstyle": "->",
                      "color": plots.COLOURS[colour], "linewidth": 2})
        axis.text(1.32 * x, 1.32 * y, name, color=plots.COLOURS[colour], ha="center", va="center")
    axis.plot(0.9, 0.5, "o", color=plots.COLOURS[0])
    axis.set(xlim=(-1.5, 1.5), ylim=(-0.4, 1.5), aspect="equal", title=f"φ = {degrees}°")
    axis.set(xlabel="$x_0$", ylabel=r"$\varepsilon$")

# %% [markdown]
# ### The same error, weighed differently
#
# A network that outputs $\hat v$ implies an $\hat x_0$ and an $\hat\varepsilon$, all with the same $x_t$. How
# are their errors related? Since both the true and the predicted triple satisfy the closed form with
# the same $x_t$,
#
# $$\sqrt{\bar\alpha_t}\,(x_0-\hat x_0) = -\sqrt{1-\bar\alpha_t}\,(\varepsilon-\hat\varepsilon) .$$
#
# Use this to replace $x_0 - \hat x_0$ in the error of $v$:
#
# $$v-\hat v = \sqrt{\bar\alpha_t}\,(\varepsilon-\hat\varepsilon) - \sqrt{1-\bar\alpha_t}\,(x_0-\hat x_0)
# = \Big(\sqrt{\bar\alpha_t} + \frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}\Big)(\varepsilon-\hat\varepsilon)
# = \frac{\varepsilon-\hat\varepsilon}{\sqrt{\bar\alpha_t}} .$$
#
# In squares, for the three losses at the same $t$:
#
# $$\|v-\hat v\|^2 = \frac{\|\varepsilon-\hat\varepsilon\|^2}{\bar\alpha_t} = \frac{\|x_0-\hat x_0\|^2}{1-\bar\alpha_t} .$$
#
# So predicting $v$ is not a different theory. It is the simple loss with another weight, $1/\bar\alpha_t$
# in place of 1: the noisy end counts again. Where the image is clean it is the loss on $\varepsilon$, and
# where it is noise it is the loss on $x_0$. The course's `mnist-ddpm` predicts $v$, under the cosine
# schedule (Salimans & Ho 2022).
#
# ### Exercise: the target v
#
# Compute $v$ for a batch in which every image has its own $t$.

# %% exercise="training.v_target" lines=2
# %%
v_target = check(v_target)

# %% [markdown]
# With this target, `v_loss` is the twin of `simple_loss`: the mean squared error of the model's output
# against `v_target`. It is in `course.training`.
#
# Here is what the choice means for a picture. We take one digit at several $t$ and pretend to have a very
# good network, off by 2 % noise only. Once it predicts $\varepsilon$, once $v$, and we solve for the image.
# Look at the two last columns.

# %%
images, labels = mnist("train")
t = torch.tensor([100, 500, 900, 975, 995])
x0 = images[1].expand(5, 1, 28, 28)
eps, slip = torch.randn(2, 5, 1, 28, 28, generator=generator)
xt = q_sample(x0, t, eps, alpha_bars)
signal, noise = torch.sqrt(at(alpha_bars, t, xt)), torch.sqrt(1 - at(alpha_bars, t, xt))

x0_from_eps = (xt - noise * (eps + 0.02 * slip)) / signal
x0_from_v = signal * xt - noise * (v_target(x0, t, eps, alpha_bars) + 0.02 * slip)
names = ["the input", "from ε̂", "from v̂"]
titles = [f"{name}, t = {step}" for name in names for step in t.tolist()]
plots.show(torch.cat([xt, x0_from_eps, x0_from_v]), titles, columns=5, size=1.5);

# %% [markdown]
# And here are both losses in the Gaussian world, each for the best predictor. Look at the height of the
# curves: the loss on $\varepsilon$ goes to 0 as the noise grows and nothing is left to be learned from it,
# while the loss on $v$ settles at $s^2$, the variance of the data: what an image can still surprise us by.

# %%
def best_v(xt: Tensor, t: Tensor) -> Tensor:
    """E[v | x_t] for data N(m, s²): v is a sum, so its best guess is made of two best guesses."""
    alpha_bar = at(alpha_bars, t, xt)
    variance = alpha_bar * s**2 + 1 - alpha_bar
    best_x0 = m + torch.sqrt(alpha_bar) * s**2 / variance * (xt - torch.sqrt(alpha_bar) * m)
    return torch.sqrt(alpha_bar) * best_eps(xt, t) - torch.sqrt(1 - alpha_bar) * best_x0


figure, axis = plt.subplots()
for name, loss, best in [("ε", simple_loss, best_eps), ("v", v_loss, best_v)]:
    losses = [loss(best, toy_x0, t, toy_eps, alpha_bars) for t in all_at.values()]
    axis.semilogy(some_t, losses, "o-", label=f"loss on {name}")
axis.set(xlabel="t", ylabel="loss of the best predictor", ylim=(1e-5, 2))
axis.legend();

# %% [markdown]
# <details><summary><b>Think:</b> why not simply predict x_0 at every t?</summary>
#
# Then the *clean* end has the problem. There $x_t$ is nearly $x_0$, so copying the input is nearly right,
# and the noise implied by a small error, $\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\,\hat x_0)/\sqrt{1-\bar\alpha_t}$,
# divides by almost 0. The last steps of sampling, which make fine detail, would suffer. v is the mixture
# that asks for the unknown part at both ends.
# </details>
#
# *A good place to pause.* We have the loss; next comes the network.
#
# ## The network
#
# It takes $x_t$ and $t$ and returns an image of the same size. Three demands shape it:
#
# - it must know $t$: faint noise and heavy noise need different treatment;
# - it must see far, to know that a stroke belongs to a 7, *and* keep detail, to say which pixel is noise;
# - it must be cheap. We train thousands of steps on a processor without a GPU.
#
# ### Telling it the time
#
# The number 731 is a poor input. As a number it is large, and neighbours such as 731 and 732 are
# hardly different. As 1000 separate classes, neighbours would have nothing in common. We want something
# between: a vector that changes smoothly with $t$, in which both near and far are easy to read off.
#
# A clock does this with hands of different speeds. Here the hands are pairs $(\sin, \cos)$ of
# $t\,\omega_i$, with frequencies that fall by the same factor from each to the next, from 1 down to
# almost $1/10000$:
#
# $$\omega_i = 10000^{-i/(d/2)}, \quad i = 0, \dots, d/2-1, \qquad
# \text{emb}(t) = \big(\sin t\omega_0, \dots, \sin t\omega_{d/2-1},\;
# \cos t\omega_0, \dots, \cos t\omega_{d/2-1}\big).$$
#
# By hand, with $d = 4$ and 100 in place of 10000, the two frequencies are $1$ and $1/10$. At $t = 3$:

# %%
for frequency in [1.0, 0.1]:
    angle = 3 * frequency
    print(f"angle {angle:.1f}: sin {math.sin(angle):5.2f}, cos {math.cos(angle):5.2f}")

# %% [markdown]
# ### Exercise: the time embedding
#
# All times at once: angles are every $t$ times every frequency, a table of shape (b, d/2). All sines come
# first, then all cosines.

# %% exercise="training.timestep_embedding"
# %%
timestep_embedding = check(timestep_embedding)

# %% [markdown]
# In the heat map each row is one $t$. Look from left to right within a half: the first columns turn quickly and
# blur, the last hardly move over all 1000 steps. On the right is the inner product of each embedding
# with that of $t = 500$: the nearer two times are, the more alike are their embeddings.

# %%
table = timestep_embedding(torch.arange(T), 128)
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
picture = left.imshow(table, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
left.set(title="timestep_embedding(t, 128)", xlabel="64 sines, then 64 cosines", ylabel="t")
left.grid(False)
figure.colorbar(picture, ax=left)
right.plot(table @ table[500] / 64)
right.set(title="alike to t = 500", xlabel="t", ylim=(0, 1.05));

# %% [markdown]
# ### The residual block
#
# The workhorse is a block of two convolutions, told the time in between, with a shortcut around both:
#
# ```
# x ─┬─► norm1 ► SiLU ► conv1 ──►(+)──► norm2 ► SiLU ► conv2 ──►(+)──► out
#    │                            ▲                              ▲
#    │           emb ► SiLU ► project                            │
#    └────────────────────── shortcut ───────────────────────────┘
# ```
#
# - **Norm** (group norm) brings each group of channels to mean 0 and variance 1, so that no layer has to
#   cope with another's drift.
# - **SiLU**, $x\cdot\text{sigmoid}(x)$, is a smooth ReLU.
# - **The time** arrives as one number per channel, added to every pixel. Added *before* the second norm
#   and SiLU, it decides which features the second convolution gets to see.
# - **The shortcut** is the input itself, or a 1×1 convolution of it where the number of channels changes.
# - `conv2` **starts with weights of zero.** An untrained block adds nothing but a constant per channel,
#   so a deep stack starts out as simple as its shortcuts and grows complicated only as it learns.
#
# ### Exercise: its forward pass
#
# `__init__` has all the layers. Write what happens to `x`. The projected embedding has shape (b, c); give
# it two more axes, so that it meets channels and not columns.

# %% exercise="training.ResidualBlock" stub="forward"
# %%
ResidualBlock = check(ResidualBlock)

# %% [markdown]
# What are shortcut and zero start good for? We stack 20 *untrained* blocks and compare what comes out
# after each with what went in (the cosine of the angle between them). The second stack has the same
# layers in ordinary initialisation, without shortcut. Look at how much of the input is left after 20
# blocks.

# %%
def plain_block() -> nn.Module:
    """The same layers, one after the other."""
    half = [nn.GroupNorm(8, 16), nn.SiLU(), nn.Conv2d(16, 16, 3, padding=1)]
    return nn.Sequential(*half, *copy.deepcopy(half))


torch.manual_seed(0)
x, emb = torch.randn(1, 16, 14, 14), torch.randn(1, 8)
residual, plain = [x], [x]
with torch.no_grad():
    for _ in range(20):
        residual.append(ResidualBlock(16, 16, 8)(residual[-1], emb))
        plain.append(plain_block()(plain[-1]))

figure, axis = plt.subplots()
for name, stack in [("with shortcut", residual), ("without", plain)]:
    likeness = [F.cosine_similarity(h.flatten(), x.flatten(), dim=0) for h in stack]
    axis.plot(likeness, "o-", label=name)
axis.set(xlabel="blocks", ylabel="likeness to the input", xticks=range(0, 21, 5))
axis.legend();

# %% [markdown]
# ### Attention
#
# A 3×3 convolution looks at neighbours. To decide whether a stroke closes a loop, the upper half of
# an image must hear from the lower half. In **self-attention** every position asks all others. From its
# features each position makes three vectors: a *query* (what am I looking for?), a *key* (what have I
# got?) and a *value* (what do I tell?). Where query and key agree, the value is listened to:
#
# $$\text{weights} = \operatorname{softmax}\Big(\frac{q\,k^\top}{\sqrt d}\Big), \qquad
# \text{out} = \text{weights}\; v ,$$
#
# with $q, k, v$ of shape (positions, $d$), and a softmax over the keys, so that each query's weights add up
# to 1. The root keeps scores of size 1: an inner product of $d$ independent terms of variance 1 has
# variance $d$.
#
# By hand, three positions with $d = 1$. The query is 2, the keys are 1, 0 and −1, the values 10, 20
# and 30. Scores: 2, 0, −2.

# %%
scores = 2.0 * torch.tensor([1.0, 0.0, -1.0])
weights = scores.softmax(dim=0)
print("weights", weights.numpy().round(2), "  out", round((weights @ torch.tensor([10.0, 20.0, 30.0])).item(), 1))

# %% [markdown]
# **Several heads** do this side by side, each on its own part of the channels, so that a position can
# look for several things at once.
#
# What does it cost? Every position against every other: the square of their number. At 28×28 that is
# $784^2 \approx 615{,}000$ scores per head, at 7×7 only $49^2 = 2401$. So we attend at 7×7, once.
#
# ### Exercise: its forward pass
#
# The 1×1 convolution `qkv` makes all three at once, as (b, 3c, h, w). The work is in the reshaping:
# `F.scaled_dot_product_attention(q, k, v)` does the formula above, for tensors of shape
# (b, heads, positions, channels of a head). Around it stand the norm, the last convolution `out`, and a
# shortcut.

# %% exercise="training.SelfAttention" stub="forward"
# %%
SelfAttention = check(SelfAttention)

# %% [markdown]
# How far does each layer see? We ask autograd: which inputs does the output in the *centre* depend on?
# (The convolution `out` starts at zero, so here we give it some weights.) Look at the difference in reach.

# %%
def reach(layer: nn.Module) -> Tensor:
    """How strongly the output at the centre of a 7×7 map depends on each position."""
    x = torch.randn(1, 32, 7, 7, requires_grad=True)
    (slope,) = torch.autograd.grad(layer(x)[0, :, 3, 3].square().sum(), x)
    return slope[0].norm(dim=0)


attention = SelfAttention(32)
nn.init.normal_(attention.out.weight, std=0.3)
layers = {"3×3 convolution": nn.Conv2d(32, 32, 3, padding=1), "self-attention": attention}
figure, axes = plt.subplots(1, 2, figsize=(6, 2.8), layout="constrained")
for axis, (name, layer) in zip(axes, layers.items(), strict=True):
    axis.imshow(reach(layer).clamp(min=1e-3).log10(), cmap="viridis", vmin=-3, vmax=1)
    axis.set(title=name, xticks=[], yticks=[])
    axis.grid(False)

# %% [markdown]
# ### The UNet
#
# Now the parts become a network. It goes down to a smaller resolution, where seeing far is cheap, and up
# again, and at each resolution a *skip* hands the fine detail across:
#
# ```
# x_t ► fold ► stem ► down1 ─────────── skip1 ───────────► [h, skip1] ► up1 ► norm, SiLU, head ► unfold
#                       │              14 × 14                 ▲
#                     shrink                             enlarge, grow
#                       ▼                                      │
#               down2 ► attention ──── skip2 ────► [h, skip2] ► up2
#                           │           7 × 7          ▲
#                           └────────► middle ─────────┘
# ```
#
# Every block is told the time through the same `emb`, which is the sinusoidal embedding sent through a
# small network (`time_mlp`).
#
# **Why fold?** Count the multiplications of one 3×3 convolution with 32 channels in and out. At
# 28×28, each of 784 positions has 32 outputs, and each output is a sum of $32\cdot 9$ products:
# $784\cdot 32\cdot 32\cdot 9 = 7.2$ million. At 14×14 there are a quarter of the positions: $1.8$ million.
# So we never compute at full size. `pixel_unshuffle` folds each 2×2 square of pixels into 4 channels of
# one position, (1, 28, 28) → (4, 14, 14). No pixel is lost, and `pixel_shuffle` unfolds the result at the
# end. What a network of this kind costs is multiplications; a fourfold saving is four times as many
# training steps in the same time.
#
# ### Exercise: put it together
#
# Three short methods. `encode` folds and goes down; it returns both skips and what comes out of `middle`.
# `decode` goes up: join (`torch.cat` along the channels, $h$ first, then the skip), block, and so on.
# Enlarge with `F.interpolate(h, size=…)` to the *size of the skip*; then `grow` smooths. `forward` makes
# `emb` and runs both.

# %% exercise="training.UNet" stub="encode, decode, forward"
# %%
UNet = check(UNet)

# %% [markdown]
# Let us follow an image through it and count. For a convolution or a linear layer, the multiplications
# per image are its outputs times the inputs that each output sums over.

# %%
def multiply_adds(network: nn.Module, *inputs: Tensor) -> dict[str, int]:
    """The multiplications of every convolution and linear layer, for one image."""
    counts: dict[str, int] = {}

    def count(name: str) -> Callable[..., None]:
        def hook(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
            counts[name] = counts.get(name, 0) + output[0].numel() * layer.weight[0].numel()

        return hook

    layers = [(n, x) for n, x in network.named_modules() if isinstance(x, nn.Conv2d | nn.Linear)]
    handles = [layer.register_forward_hook(count(name)) for name, layer in layers]
    with torch.no_grad():
        network(*inputs)
    for handle in handles:
        handle.remove()
    return counts


# %%
one, now = torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64)
counts = {patch: multiply_adds(UNet(patch=patch), one, now) for patch in (1, 2)}
for patch, count in counts.items():
    size = sum(p.numel() for p in UNet(patch=patch).parameters())
    print(f"patch {patch}: {sum(count.values()) / 1e6:5.1f} million multiply-adds, {size:,} parameters")

# %% [markdown]
# The figure shows where they go, part by part. Look at the two bars of each part. The parameters are almost
# the same in both networks, but with folding every block in between is four times cheaper. And look at how
# little attention costs on 49 positions. (Its products of queries and keys are not layers, so they are not in
# the count. Here they add 0.3 million; on 14×14 positions they would add 16 times that.)

# %%
parts = ["stem", "down1", "shrink", "down2", "attention", "middle", "up2", "grow", "up1", "head"]
figure, axis = plt.subplots(figsize=(8, 3))
for shift, (patch, count) in zip((-0.2, 0.2), counts.items(), strict=True):
    costs = [sum(c for name, c in count.items() if name.split(".")[0] == part) for part in parts]
    axis.bar([i + shift for i in range(len(parts))], [c / 1e6 for c in costs], 0.4,
             label=f"patch {patch}")
axis.set_xticks(range(len(parts)), parts, fontsize=8)
axis.set(ylabel="million multiply-adds")
axis.legend();

# %% [markdown]
# <details><summary><b>Think:</b> how far does one output pixel see, if we count convolutions alone?</summary>
#
# Each 3×3 convolution adds one position on every side. At 14×14 there are the stem, two in `down1` and
# `shrink`: 4 positions on each side, already 9 of 14. One position at 7×7 is two at 14×14, and there
# `down2`, `middle` and `up2` add two each: 12 more. So even without attention the centre sees the whole
# image, but far positions only through many layers. Attention gives them a direct line.
# </details>
#
# *Another good place to pause.* We have a loss and a network; what is left is the training.
#
# ## An average of the weights
#
# Each training step sees 32 images and 32 noise levels out of very many, so the weights jitter about
# the place where they should be. Averaging over recent steps takes the jitter away. The **exponential
# moving average** (EMA) needs one copy of the weights and one line:
#
# $$\theta_\text{ema} \leftarrow d\,\theta_\text{ema} + (1-d)\,\theta .$$
#
# By hand: the average is 1, the weights become 4, then 2, then 3, and $d = 0.9$:

# %%
average = 1.0
for weight in [4.0, 2.0, 3.0]:
    print(f"0.9 * {average:.3f} + 0.1 * {weight:.0f} = {0.9 * average + 0.1 * weight:.3f}")
    average = 0.9 * average + 0.1 * weight

# %% [markdown]
# Written out, after $n$ updates $\theta_\text{ema} = d^{\,n}\,\theta_0 + (1-d)\sum_{k=1}^{n} d^{\,n-k}\,\theta_k$: a
# weighted mean over about the last $1/(1-d)$ steps. With $d = 0.995$ that is 200.
#
# Look at the first term. The average begins at the random start $\theta_0$, and with $d = 0.995$ a tenth of
# *that* is still in it after 460 steps. So the decay **warms up**: in step $k$ it is
# $\min\big(d, (1+k)/(10+k)\big)$, which begins at 0.1 and forgets the start at once.
#
# ### Exercise: one update
#
# Change `ema` in place, parameter by parameter. The decorator `@torch.no_grad()` keeps autograd out of it.
# Buffers, such as a batch norm's running mean, are statistics rather than weights: copy them.

# %% exercise="training.ema_update"
# %%
ema_update = check(ema_update)

# %% [markdown]
# A single noisy "weight" that wanders from 0 to 1, and three averages of it. Look for jitter, for delay,
# and, with $d = 0.99$, for how long the start is remembered with warm-up and without.

# %%
torch.manual_seed(1)
noisy = 1 - torch.exp(-torch.arange(400) / 40) + 0.15 * torch.randn(400)
averages = {"d = 0.9": 0.9, "d = 0.99": 0.99, "d = 0.99, warmed up": 0.99}

figure, axis = plt.subplots(figsize=(7, 3.4))
axis.plot(noisy, color="lightgrey", label="the weight")
for name, decay in averages.items():
    average, seen = nn.ParameterList([torch.zeros(1)]).requires_grad_(False), []
    for k, value in enumerate(noisy):
        warm = min(decay, (1 + k) / (10 + k)) if "warm" in name else decay
        ema_update(average, nn.ParameterList([value[None]]), warm)
        seen.append(average[0].item())
    axis.plot(seen, label=name)
axis.set(xlabel="step")
axis.legend();

# %% [markdown]
# ## The training loop
#
# ### What is random about a step
#
# A step needs a batch of images, a $t$ for each, and noise. If all of these came from one stream of random
# numbers, a run that is interrupted could only go on from the very same place in the stream. So in this
# course **each step has a generator of its own**, made from the seed and the step's number. Step 731 draws
# the same numbers whether 730 steps ran just before it or last week.

# %% inline="training.step_generator"
# %% [markdown]
# The order of the images works the same way. Every epoch is a shuffle of its own, drawn from the seed and
# the epoch's number, and `batch_indices(n, batch_size, step)` cuts the batch out of it. With 10 images and
# batches of 4, step 2 takes the last two of one shuffle and the first two of the next. No image is
# skipped, and none comes twice in an epoch:

# %%
order = [batch_indices(10, 4, step) for step in range(5)]
print("sizes:", [len(i) for i in order])
print("each of two epochs, sorted:", torch.cat(order).reshape(2, 10).sort(dim=1).values.tolist())

# %% [markdown]
# ### How large a step
#
# The optimizer is Adam. Its learning rate rises in a straight line for the first 2 % of the run, while
# Adam's own estimates settle. Then it falls to 0 along a half cosine: large steps to get near, small ones
# to come to rest. Last, **gradients are clipped**: when the norm of all of them together is larger than
# 1, they are scaled down to 1. One unlucky batch then cannot throw the weights far.

# %% inline="training.learning_rate"
# %%
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.plot([learning_rate(i / 1000, 3e-3) for i in range(1001)])
axis.set(xlabel="permille of the run", ylabel="learning rate");

# %% [markdown]
# ### The state of a run
#
# All that a run needs to go on: the weights, their average, Adam's memory, and the number of the step.
# There is no state of a random generator among them, because each step makes its own.

# %% inline="training.TrainState"
# %% inline="training.Step"
# %% [markdown]
# ### Exercise: the loop
#
# A training loop here is a **generator**: it does one step for each `next()` and *yields* what happened.
# Whoever runs it can draw a progress bar, stop early or plot, and the loop knows nothing about it.
#
# One step, in this order:
#
# 1. set the learning rate, `learning_rate(state.step / steps, lr)`, in each of the optimizer's
#    `param_groups` (under the key `"lr"`);
# 2. `draw(state.step, step_generator(seed, state.step))` gives a tuple of tensors, the batch; move it to
#    the model's device;
# 3. the loss, `loss_fn(net, *batch)`; set gradients to zero; `backward()`;
# 4. `nn.utils.clip_grad_norm_`, which clips in place and returns the norm before clipping;
# 5. the optimizer's step, and then `ema_update`, with the decay warmed up as above ($k$ is `state.step`);
# 6. `state.step += 1`, and yield a `Step`, with numbers in it and not tensors.
#
# A state may come from an interrupted run: go on from `state.step`.
#
# **Several processes.** The same loop runs on several GPUs, with the help of `accelerate`. Three places
# know of it, and with `accelerator=None` all three do nothing. Use them as they are:
# the model is `net = state.model if accelerator is None else accelerator.prepare(state.model)`, a process's
# part of a tensor is `own_share(x, accelerator)`, and the loss to report is
# `mean_loss(loss.detach(), accelerator)`, a float.

# %% exercise="training.train" lines=16
# %%
train = check(train)

# %% [markdown]
# ### Stop, and go on
#
# Does a run that was interrupted end where it would have ended? We train a tiny network for 6 steps in one
# go. Then we train another for 3 steps, keep its state, put it into a *new* network with other random
# weights, and go on for 3 more. If only one random number differed, the weights would too.

# %%
def draw(step: int, generator: torch.Generator, batch_size: int = 32) -> tuple[Tensor, ...]:
    """Everything random about a step: images, step numbers and noise."""
    x0 = images[batch_indices(len(images), batch_size, step)]
    t = torch.randint(T, (batch_size,), generator=generator)
    return x0, t, torch.randn(x0.shape, generator=generator)


def loss_fn(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return v_loss(model, x0, t, eps, alpha_bars)


def new_run(seed: int, channels: tuple[int, int] = (8, 16)) -> TrainState:
    torch.manual_seed(seed)
    return TrainState.start(UNet(channels=channels))


# %%
whole = new_run(seed=0)
for _ in train(whole, draw, loss_fn, steps=6):
    pass

first = new_run(seed=0)
for report in train(first, draw, loss_fn, steps=6):
    if report.step == 3:
        break
parts = {"model": first.model, "ema": first.ema, "optimizer": first.optimizer}
saved = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}

# %%
second = new_run(seed=99)
for name, part in saved.items():
    getattr(second, name).load_state_dict(part)
second.step = 3
for _ in train(second, draw, loss_fn, steps=6):
    pass

pairs = zip(whole.ema.parameters(), second.ema.parameters(), strict=True)
print("steps:", whole.step, second.step, "  equal bit for bit:", all(torch.equal(a, b) for a, b in pairs))

# %% [markdown]
# The command `python -m course train mnist-ddpm` uses this loop and writes the same things to a file every
# minute. Press Ctrl-C, run it again another day, and it goes on as if nothing had happened.
#
# ## A live run
#
# Now the real thing, if a short one: 200 steps with batches of 32, about half a minute. On the way we keep
# a copy of the average after 60 steps. The shipped weights come from the same loop with many more steps.

# %% tags=["nbval-ignore-output"]
live, reports = new_run(seed=0, channels=(32, 64)), []
for report in tqdm(train(live, draw, loss_fn, steps=200, lr=3e-3), total=200):
    reports.append(report)
    if report.step == 60:
        early = copy.deepcopy(live.ema)

# %% [markdown]
# Look at the scatter of the single steps, and at the smoothed curve. It falls steeply at first, and then
# seems to lie down.

# %%
losses = torch.tensor([report.loss for report in reports])
smooth = losses.unfold(0, 20, 1).mean(dim=1)
figure, axis = plt.subplots()
axis.plot(range(1, 201), losses, color=plots.COLOURS[5], alpha=0.6, label="one step")
axis.plot(range(20, 201), smooth, color=plots.COLOURS[1], label="mean of the last 20")
axis.set(xlabel="step", ylabel="v loss", ylim=(0, 1.1))
axis.legend();

# %% [markdown]
# ### What the loss can tell, and what it cannot
#
# The scatter is not a fault of training. It comes from the *task*: one batch happens to draw easy $t$,
# another hard ones. So let us take the loss apart by $t$, on test images that no network was trained on. We
# compare the live run after 60 steps and at its end with the shipped network. (We always ask the average.
# In a run as short as this one the last weights would do as well, because the learning rate takes them to
# rest; in a long run the average is worth a lot.)

# %%
shipped = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
test_images, _ = mnist("test")


@torch.no_grad()
def loss_by_t(network: nn.Module, buckets: int = 10, n: int = 64) -> list[float]:
    """The v loss in each tenth of 0 … T−1; every network is asked about the same images and noise."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for low in range(0, T, T // buckets):
        t = torch.randint(low, low + T // buckets, (n,), generator=generator)
        eps = torch.randn(n, 1, 28, 28, generator=generator)
        found.append(loss_fn(network, test_images[low : low + n], t, eps).item())
    return found


# %% [markdown]
# Look at where the curves differ, and where they do not.

# %%
figure, axis = plt.subplots()
networks = {"live, 60 steps": early, "live, 200 steps": live.ema, "shipped": shipped}
for name, network in networks.items():
    axis.plot(range(50, T, 100), loss_by_t(network), "o-", label=name)
axis.set(xlabel="t", ylabel="v loss on test images", ylim=(0, None))
axis.legend();

# %% [markdown]
# Three things to take from it.
#
# - **A loss is a mean over very different tasks.** The noisy end was learned after 60 steps: where only the
#   rough shape of a digit can be guessed, there is little to know. What came later, and what the shipped network
#   adds, is in the clean half, in the detail. A single number hides this.
# - **It does not go to 0, and should not.** Part of it is noise that nobody can know. In the Gaussian world we
#   knew the smallest possible loss, and it was far from 0. Here we do not know that floor.
# - **It looks flat long before the samples are good.** After 150 steps one would say that the live run has
#   finished. The shipped network took many times as many steps, each with a gain too small to see in the
#   scatter. But sampling asks the network dozens or hundreds of times in a row, and small errors add up on
#   the way. How good samples are, one learns only by sampling and measuring: that is lesson 04.
#
# ## What the networks see
#
# From $x_t$ and a predicted $\hat v$ comes the image that the network believes in:
# $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v$, the rotation turned back (lesson 04 builds on
# it). We noise one test digit by more and more, and ask both networks once. Compare the two middle rows.
# And look along a row: at small $t$ the digit is sharp. At large $t$, where no digit can be made out any
# more, the guess is a soft mean of all digits that *could* be there. That is right: the squared error is
# smallest at the mean. It is also why one cannot simply jump from noise to image, and lesson 04 walks.

# %%
@torch.no_grad()
def believed_image(network: nn.Module, xt: Tensor, t: Tensor) -> Tensor:
    """x̂_0 from a network that predicts v."""
    alpha_bar = at(alpha_bars, t, xt)
    return torch.sqrt(alpha_bar) * xt - torch.sqrt(1 - alpha_bar) * network(xt, t)


t = torch.tensor([50, 200, 400, 600, 800, 900, 980])
x0 = test_images[18].expand(7, 1, 28, 28)
eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(3))
xt = q_sample(x0, t, eps, alpha_bars)

rows = [xt, believed_image(live.ema, xt, t), believed_image(shipped, xt, t), x0]
names = ["$x_t$", "live", "shipped", "$x_0$"]
titles = [f"{name}, t = {step}" for name in names for step in t.tolist()]
plots.show(torch.cat(rows), titles, columns=7, size=1.25);

# %% [markdown]
# One more question to the shipped network. Its belief about the *centre* pixel: which pixels of $x_t$ does
# it rest on? Autograd answers again. Look at how the region grows with the noise. When every pixel is nearly
# clean, a neighbourhood will do; when each is unreliable, the network must gather evidence from far away.
# (The faint lattice is a trace of the fold: pixels at the same place in their 2×2 square share channels.)

# %%
def evidence(t: int, n: int = 32) -> Tensor:
    """How strongly the believed centre depends on each pixel of x_t, averaged over n test images."""
    step = torch.full((n,), t)
    eps = torch.randn(n, 1, 28, 28, generator=torch.Generator().manual_seed(4))
    xt = q_sample(test_images[:n], step, eps, alpha_bars).requires_grad_()
    alpha_bar = at(alpha_bars, step, xt)
    x0_hat = torch.sqrt(alpha_bar) * xt - torch.sqrt(1 - alpha_bar) * shipped(xt, step)
    (slope,) = torch.autograd.grad(x0_hat[:, 0, 14, 14].sum(), xt)
    return slope.abs().mean(dim=0)[0]


maps = {t: evidence(t) for t in (20, 200, 500, 800)}
figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
for axis, (t, found) in zip(axes, maps.items(), strict=True):
    axis.imshow((found / found.max()).log10(), cmap="viridis", vmin=-3, vmax=0)
    axis.set(title=f"t = {t}", xticks=[], yticks=[])
    axis.grid(False)

# %% [markdown]
# ## Beside the library
#
# The `diffusers` library has all of these parts. Its `get_timestep_embedding` has switches for the order of
# sines and cosines and for the last frequency; with the right ones it is ours.

# %%
from diffusers import UNet2DModel
from diffusers.models.embeddings import get_timestep_embedding

theirs = get_timestep_embedding(torch.arange(T), 128, flip_sin_to_cos=False, downscale_freq_shift=0)
gap = (timestep_embedding(torch.arange(T), 128) - theirs).abs().max()
print("embeddings agree to 1e-5:", bool(gap < 1e-5))

# %% [markdown]
# Its `UNet2DModel` is the network of the DDPM paper. Here is a small one of the kind that tutorials train on
# MNIST, beside ours. It computes at full size, 28×28, so it has a few times our parameters but many
# times our multiplications. On a processor, that decides how many steps an hour has.

# %%
library = UNet2DModel(
    sample_size=28,
    in_channels=1,
    out_channels=1,
    layers_per_block=1,
    block_out_channels=(32, 64, 64),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
)
for name, network in [("ours", UNet()), ("diffusers", library)]:
    size = sum(p.numel() for p in network.parameters()) / 1e6
    work = sum(multiply_adds(network, one, now).values()) / 1e6
    print(f"{name:9}  {size:4.2f} million parameters, {work:5.1f} million multiply-adds an image")

# %% [markdown]
# ## Recap
# 1. The bound on $-\log p_\theta(x_0)$ falls apart into one KL between Gaussians per step. With the noise as
#    the unknown, each is a weighted squared error; the simple loss drops the weights.
# 2. ε, $x_0$ and $v$ carry the same information. $v$ weighs the noisy end by $1/\bar\alpha_t$, and nothing is
#    divided by almost 0.
# 3. The UNet: told the time by sines and cosines, residual blocks that start as their shortcuts,
#    attention where it is cheap, skips for detail, and pixels folded so that nothing runs at full size.
# 4. The average of the weights is what we sample from; its decay warms up.
# 5. The loop is a generator, each step has its own random numbers, and a run can stop and go on.
#
# **What can go wrong.** The papers' $t = 1$ is index 0, and the last $t$ must be drawn too:
# `torch.randint(T, …)` leaves nothing out. Gradients not set to zero. An average that is never used, or never
# updated. $\bar\alpha$ where $\sqrt{\bar\alpha}$ belongs. A sum in place of a mean, so that the learning rate
# means something else. And the most expensive of all: stopping because the loss looks flat.
#
# **Read on.** Ho, Jain & Abbeel, *Denoising Diffusion Probabilistic Models* (arXiv 2006.11239), section 3 and
# appendix A, for the bound. Nichol & Dhariwal (arXiv 2102.09672) on the weights and on learned variances.
# Salimans & Ho, *Progressive Distillation* (arXiv 2202.00512), appendix D, for $v$. Kingma et al., *Variational
# Diffusion Models* (arXiv 2107.00630), for what the weights mean. Vaswani et al. (arXiv 1706.03762) for
# attention and the time embedding, Ronneberger et al. (arXiv 1505.04597) for the UNet, He et al. (arXiv
# 1512.03385) for shortcuts, Karras et al. (arXiv 2312.02696) for how much an average of the weights matters.
#
# **Next.** Lesson 04 walks back from noise, one step at a time, with the network that you built.
