# %% [markdown]
# # 04 · Sampling: from noise to data
#
# **After this lesson you can**
# - derive the step back from $x_t$ to $x_{t-1}$ with Bayes' rule, and say which part of it is not
#   available when you sample, and what stands in for it;
# - write DDPM's ancestral step, DDIM's step, and one sampler that runs both;
# - draw digits from noise, choose a number of steps, and measure what the choice costs.
#
# **Time:** about 90 minutes. **Needs:** lessons 02 and 03, Bayes' rule, and the density of a normal
# variable.

# %%
from collections.abc import Iterator
from itertools import pairwise

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor

from course import metrics, plots
from course.checks import check, hint
from course.data import mnist
from course.forward_process import (
    alpha_bars_from_betas, at, cosine_schedule, q_sample
)
from course.sampling import EpsModel, Kind
from course.training import UNet
from course.weights import card, load_weights

plots.set_style()

# %% [markdown]
# ## How does a DDPM generate samples?
#
# Lesson 02 built a bridge from data to noise, and walking it in that direction needs no learning at
# all. In Yang Song's words: *creating noise from data is easy; creating data from noise is generative
# modeling*. Now we walk the other way.
#
# The plan is simple to say. Draw $x_T$ from $\mathcal N(0, I)$. Then take a step back, from $x_T$ to an
# $x_{T-1}$ that is a little less noisy, and another, and another, until $x_0$ is an image. If every step
# back is a draw from the right distribution $p(x_{t-1} \mid x_t)$, then the result is a draw from the
# distribution of the data.
#
# So what is $p(x_{t-1} \mid x_t)$? Bayes' rule turns it into $p(x_t \mid x_{t-1})\,p(x_{t-1})/p(x_t)$, and
# there we are stuck. $p(x_{t-1})$ is the distribution of *all* images with a little noise on them, and
# it is as unknown as the data's own.
#
# It becomes easy if somebody tells us where the walk began. Given $x_0$, every part of Bayes' rule is a
# normal distribution that lesson 02 has already worked out:
#
# $$p(x_{t-1} \mid x_t, x_0) =
# \frac{\overbrace{p(x_t \mid x_{t-1}, x_0)}^{\text{one step}}\;\;
# \overbrace{p(x_{t-1} \mid x_0)}^{\text{closed form at } t-1}}
# {\underbrace{p(x_t \mid x_0)}_{\text{closed form at } t}} .$$
#
# This is our route: first the step back *as if* $x_0$ were known, then the question whether it is.
#
# ### Which step is which
#
# In formulas $x_0$ is the clean data and the noisy images are $x_1, \dots, x_T$. In code, arrays start at
# 0 and `t` runs over 0 … T−1, so that `alpha_bars[0]` belongs to the *first noisy* image. The data
# come one before that, at `s = -1`, and nothing has been lost there: $\bar\alpha_{-1} = 1$. We write $t$
# for where a step starts and $s$ for where it leads; one step is $s = t-1$.
#
# ## The step back, when $x_0$ is known
#
# ### One pixel, by hand
#
# Take a schedule of two levels with handsome roots, $\bar\alpha = 0.64$ and then $0.36$, so that
# $\sqrt{\bar\alpha}$ is 0.8 and then 0.6. The second step alone has $\alpha = 0.36/0.64 = 0.5625$, with
# the root 0.75. Say the clean pixel was $x_0 = 1$, and we see $x_t = 1.2$ at the second level. What was
# $x_s$, the pixel at the first level? Two witnesses speak about it:
#
# - **where we came from**: $x_s$ is normal with mean $0.8 \cdot x_0 = 0.8$ and variance $1 - 0.64 = 0.36$;
# - **where we went**: $x_t$ is normal with mean $0.75\,x_s$ and variance $1 - 0.5625 = 0.4375$. Having
#   seen $x_t = 1.2$, values of $x_s$ near $1.2/0.75 = 1.6$ are the most likely.
#
# Bayes' rule multiplies the two and scales the product so that its area is 1. No formula is needed for
# that, only a fine grid of candidates for $x_s$.

# %%
x0, xt = 1.0, 1.2
xs = torch.linspace(-2, 4, 6001, dtype=torch.float64)

came_from = torch.exp(-((xs - 0.8 * x0) ** 2) / (2 * 0.36))
went_to = torch.exp(-((xt - 0.75 * xs) ** 2) / (2 * 0.4375))
posterior = came_from * went_to / (came_from * went_to).sum()

mean = (posterior * xs).sum()
variance = (posterior * (xs - mean) ** 2).sum()
print(f"mean {mean:.3f}, variance {variance:.3f}")

# %% [markdown]
# In the figure, the product (green) should lie between its two factors, nearer to the narrower one, and
# be narrower than either: two witnesses together know more than each alone.

# %%
figure, axis = plt.subplots()
for curve, label in [(came_from, "from $x_0$: $p(x_s | x_0)$"),
                     (went_to, "from $x_t$: $p(x_t | x_s)$"),
                     (posterior, "both: $p(x_s | x_t, x_0)$")]:
    axis.plot(xs, curve / (curve.sum() * 0.001), label=label)
axis.set(xlabel="$x_s$", ylabel="density", xlim=(-1.5, 4))
axis.legend();
# %% [markdown]
# ### Completing the square
#
# Now in letters. We need three facts of lesson 02. The first one also uses that a step adds *fresh*
# noise: once $x_{t-1}$ is known, $x_0$ says nothing more about $x_t$.
#
# $$\begin{aligned}
# p(x_t \mid x_{t-1}, x_0) = p(x_t \mid x_{t-1}) &= \mathcal N(\sqrt{\alpha_t}\,x_{t-1},\; \beta_t I), \\
# p(x_{t-1} \mid x_0) &= \mathcal N(\sqrt{\bar\alpha_{t-1}}\,x_0,\; (1-\bar\alpha_{t-1}) I), \\
# p(x_t \mid x_0) &= \mathcal N(\sqrt{\bar\alpha_t}\,x_0,\; (1-\bar\alpha_t) I).
# \end{aligned}$$
#
# All covariances are multiples of $I$, so each pixel can be treated on its own. The logarithm of
# Bayes' rule is a sum of three squares, up to a constant:
#
# $$\log p(x_{t-1} \mid x_t, x_0) = -\frac12\left[
# \frac{(x_t - \sqrt{\alpha_t}\,x_{t-1})^2}{\beta_t}
# + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}
# - \frac{(x_t - \sqrt{\bar\alpha_t}\,x_0)^2}{1-\bar\alpha_t}\right] + \text{const}.$$
#
# We look at it as a function of $x_{t-1}$. The last square does not contain $x_{t-1}$ at all and joins the
# constant. From the other two, collect what stands with $x_{t-1}^2$ and with $x_{t-1}$:
#
# $$= -\frac12\Big[\; A\,x_{t-1}^2 - 2B\,x_{t-1} \;\Big] + \text{const}, \qquad
# A = \frac{\alpha_t}{\beta_t} + \frac{1}{1-\bar\alpha_{t-1}}, \qquad
# B = \frac{\sqrt{\alpha_t}}{\beta_t}\,x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}\,x_0 .$$
#
# Complete the square: $A x^2 - 2Bx = A\,(x - B/A)^2 - B^2/A$, and $B^2/A$ joins the constant as well. What
# is left is the logarithm of a normal density. **Its variance is $1/A$ and its mean is $B/A$.**
#
# It remains to tidy up. On a common denominator, and with $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$ and
# $\alpha_t + \beta_t = 1$,
#
# $$A = \frac{\alpha_t(1-\bar\alpha_{t-1}) + \beta_t}{\beta_t\,(1-\bar\alpha_{t-1})}
# = \frac{\alpha_t - \bar\alpha_t + \beta_t}{\beta_t\,(1-\bar\alpha_{t-1})}
# = \frac{1-\bar\alpha_t}{\beta_t\,(1-\bar\alpha_{t-1})} .$$
#
# The variance is this turned upside down, and the mean is $B$ multiplied by it:
#
# $$\boxed{\;\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t, \qquad
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t .\;}$$
#
# Try it on the pixel. The weights must bring out what the grid found:

# %%
from_x0 = 0.8 * 0.4375 / 0.64
from_xt = 0.75 * 0.36 / 0.64
print(f"mean {from_x0:.3f} * 1.0 + {from_xt:.3f} * 1.2 = {from_x0 * 1.0 + from_xt * 1.2:.3f}")
print(f"variance {0.36 / 0.64 * 0.4375:.3f}")

# %% [markdown]
# ### Longer steps
#
# Did anything above need $x_{t-1}$ to be the *direct* neighbour of $x_t$? Only the first of the three
# facts. But lesson 02 also showed that any number of steps collapses into one. All steps from an earlier
# $s$ to $t$ together are
#
# $$p(x_t \mid x_s) = \mathcal N(\sqrt\alpha\,x_s,\; (1-\alpha) I) \qquad\text{with}\qquad
# \alpha = \alpha_{s+1}\cdots\alpha_t = \frac{\bar\alpha_t}{\bar\alpha_s},$$
#
# because the product up to $t$, divided by the product up to $s$, leaves the factors between. So both
# formulas hold for any $s < t$, with $\bar\alpha_s$ for $\bar\alpha_{t-1}$, this $\alpha$ for $\alpha_t$ and
# $\beta = 1-\alpha$ for $\beta_t$. We will want such strides soon, so we write them in from the start.
#
# One trap is left. `alpha_bars[s]` with `s = -1` is, in Python, the *last* value: pure noise instead of
# clean data, and no error to warn you. The helper `earlier` puts a 1 in front of the schedule and looks
# one place further on.

# %% inline="sampling.earlier"
# %% [markdown]
# ### Exercise: the posterior's mean
#
# Images are `(b, c, h, w)` and there is one `t` and one `s` for each. `at(alpha_bars, t, xt)` is
# $\bar\alpha_t$ in the shape `(b, 1, 1, 1)`, and `earlier(alpha_bars, s, xt)` is $\bar\alpha_s$ likewise.

# %% exercise="sampling.posterior_mean" lines=6
# %%
posterior_mean = check(posterior_mean)

# %% [markdown]
# Stuck? `hint(posterior_mean)` says a little more with each call.
#
# ### Exercise: the posterior's variance
#
# It depends on the schedule alone, so there are no images here: `(b,)` in, `(b,)` out. `at` and `earlier`
# shape their result like their last argument; for a number per step, give them something of shape `(b,)`.

# %% exercise="sampling.posterior_var" lines=4
# %%
posterior_var = check(posterior_var)

# %% [markdown]
# What do these numbers look like along the cosine schedule? On the left are the weights of $x_0$ and $x_t$
# in the mean. For most of the walk the step back hardly moves: it keeps almost all of $x_t$ and takes a
# pinch of $x_0$. Only at the very end, on the left edge, does $x_0$ take over, and at $t = 0$ its weight is
# exactly 1. (The dip at the right edge is the schedule's clipped last step, $\beta = 0.999$: one long step
# all by itself.) On the right is the ratio $\tilde\beta_t/\beta_t$. Look where it departs from 1: only where
# there is little noise left, and at $t = 0$ it is 0.

# %%
alpha_bars = alpha_bars_from_betas(cosine_schedule())
t = torch.arange(1000)
one, zero = torch.ones(1000, 1), torch.zeros(1000, 1)
weight_x0 = posterior_mean(one, zero, t, alpha_bars)
weight_xt = posterior_mean(zero, one, t, alpha_bars)

figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
left.semilogy(t, weight_x0, label="weight of $x_0$")
left.semilogy(t, weight_xt, label="weight of $x_t$")
left.set(xlabel="t", ylim=(1e-3, 2))
left.legend()
right.plot(t, posterior_var(t, alpha_bars) / cosine_schedule())
right.set(xlabel="t", ylabel=r"$\tilde\beta_t\, /\, \beta_t$", xlim=(-5, 200));
# %% [markdown]
# <details><summary><b>Think:</b> why is the step back never wider than the step forward,
# $\tilde\beta_t \le \beta_t$? And why must $\tilde\beta$ be 0 at the last step?</summary>
#
# $1/\tilde\beta_t = A$ is the sum of two precisions, one for each witness, so knowing $x_0$ can only
# sharpen the answer. At the last step the question is "where is $x_0$, given $x_0$?", and there is
# nothing left to be unsure of. Code that adds noise there anyway leaves a grain on every image it makes.
# </details>
#
# ## Is $x_0$ available during sampling?
#
# No. The image $x_0$ is what we are trying to make. Everything above is a formula with a hole in it.
#
# But we have a network. Lesson 03 trained it to look at $x_t$ and predict the noise in it. Call the
# prediction $\hat\varepsilon$. Between $x_t$, the noise and $x_0$ there is one equation, the closed form
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$. Whoever knows two of the three knows
# the third. Solve it for $x_0$ and put the prediction in:
#
# $$\boxed{\;\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\;\hat\varepsilon}{\sqrt{\bar\alpha_t}} .\;}$$
#
# ### Exercise: the predicted image

# %% exercise="sampling.predict_x0" lines=2
# %%
predict_x0 = check(predict_x0)

# %% [markdown]
# ### What the network says, as noise
#
# There are three things a network can be trained to predict: $\varepsilon$, $x_0$, or the mixture that
# lesson 03 recommended, $v = \sqrt{\bar\alpha_t}\,\varepsilon - \sqrt{1-\bar\alpha_t}\,x_0$. Our sampler will
# only ever ask for noise, so that it works with any of them. That takes a translation. From $x_0$ it is
# the closed form once more, now solved for $\varepsilon$:
#
# $$\hat\varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\;\hat x_0}{\sqrt{1-\bar\alpha_t}} .$$
#
# For $v$, multiply it by $\sqrt{\bar\alpha_t}$ and $x_t$ by $\sqrt{1-\bar\alpha_t}$, and add:
#
# $$\begin{aligned}
# \sqrt{\bar\alpha_t}\,v &= \bar\alpha_t\,\varepsilon - \sqrt{\bar\alpha_t(1-\bar\alpha_t)}\,x_0, \\
# \sqrt{1-\bar\alpha_t}\,x_t &= \sqrt{\bar\alpha_t(1-\bar\alpha_t)}\,x_0 + (1-\bar\alpha_t)\,\varepsilon .
# \end{aligned}$$
#
# The $x_0$ terms cancel, the $\varepsilon$ terms add up to one whole $\varepsilon$, and so
#
# $$\hat\varepsilon = \sqrt{\bar\alpha_t}\;\hat v + \sqrt{1-\bar\alpha_t}\;x_t .$$
#
# ### Exercise: any output as noise

# %% exercise="sampling.to_eps" lines=8
# %%
to_eps = check(to_eps)

# %% [markdown]
# With it, a network of any kind becomes a function of $(x_t, t)$ that returns $\hat\varepsilon$:

# %% inline="sampling.as_eps_model"
# %% [markdown]
# Time to load the network that ships with the course. It was made by lesson 03's loop, predicts $v$, and
# knows the cosine schedule.

# %%
images, labels = mnist("train")
network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
network = network.to(memory_format=torch.channels_last)  # the same numbers, a third faster on a CPU
eps_model = as_eps_model(network, alpha_bars, "v")

# %% [markdown]
# How good is $\hat x_0$? Take one digit, put more and more noise on it, and ask the network each time.
# Above is what it sees, below what it believes was there. On the left it should be nearly perfect. Further
# right it goes *blurry* before it goes *wrong*, and the last picture is no digit at all.

# %%
generator = torch.Generator().manual_seed(0)
t = torch.tensor([100, 300, 500, 600, 700, 800, 900, 990])
digit = images[5:6].expand(len(t), -1, -1, -1)
xt = q_sample(digit, t, torch.randn(digit.shape, generator=generator), alpha_bars)

with torch.no_grad():
    x0_hat = predict_x0(xt, t, eps_model(xt, t), alpha_bars).clamp(-1, 1)
plots.show(torch.cat([xt, x0_hat]), [f"t = {i}" for i in t] + [""] * len(t), columns=len(t),
           title=r"above: $x_t$ · below: $\hat x_0$");
# %% [markdown]
# The blur is no defect. A network trained with squared error learns an *average*: $\hat x_0$ is the mean
# of all clean images that could have become this $x_t$. With little noise there is only one such image.
# With much noise there are thousands, and their mean is a smudge. That is why nobody stops after one
# prediction. We use $\hat x_0$ only to take a small step, after which there is less noise, and ask again.
#
# ### Why it is clipped
#
# Look at the formula for $\hat x_0$ once more. An error $\delta$ in $\hat\varepsilon$ becomes an error of
# $\delta\,\sqrt{1-\bar\alpha_t}/\sqrt{\bar\alpha_t}$ in $\hat x_0$. How large is that factor?

# %%
factor = ((1 - alpha_bars) / alpha_bars).sqrt()
for step in (100, 500, 900, 990, 999):
    print(f"t = {step:3}: an error of 0.01 in the noise is one of {0.01 * factor[step]:.2g} in x0")

# %%
figure, axis = plt.subplots()
axis.semilogy(factor)
axis.axhline(1, color="grey", linewidth=0.8)
axis.set(xlabel="t", ylabel=r"$\sqrt{1-\bar\alpha_t}\;/\;\sqrt{\bar\alpha_t}$", ylim=(1e-2, 1e5));
# %% [markdown]
# At the start of the walk, a tiny mistake throws $\hat x_0$ far outside the range of images. But we know
# something that the formula does not: pixels lie in [−1, 1]. So we **clip** $\hat x_0$ to that range before
# we use it. It costs nothing where the prediction is good, and keeps the walk among images where it is
# not. (The DDPM authors' own code does it as well, although their paper does not mention it.)
#
# <details><summary><b>Think:</b> our network predicts v. We turn v into noise and the noise into
# $\hat x_0$. Does the large factor hurt us too?</summary>
#
# Put the two formulas together and the division cancels:
# $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,\hat v$. An error in $\hat v$ is never
# magnified, which is one reason to predict $v$. What is left is rounding: float32 carries about seven
# digits, and the detour magnifies its error of about $10^{-7}$ by at most 20,000. That makes 0.002, on a
# step that hardly looks at $\hat x_0$. Clipping still helps a little, because a mean of images can
# overshoot.
# </details>
#
# ## DDPM: ancestral sampling
#
# Now the hole is filled. One step of DDPM draws from the posterior, with the clipped prediction in the
# place of $x_0$:
#
# $$x_s = \tilde\mu(\hat x_0, x_t) + \sqrt{\tilde\beta}\;z, \qquad z \sim \mathcal N(0, I).$$
#
# Such a walk, each step drawn given the one before, is called **ancestral sampling**. Since
# $\tilde\beta = 0$ at the last step, the last step adds no noise and returns $\hat x_0$ itself.
#
# The helper `posterior_std` gives $\sqrt{\tilde\beta}$ in the shape that multiplies images.

# %% inline="sampling.posterior_std"
# %% [markdown]
# ### Exercise: one ancestral step
#
# The noise $z$ comes in as an argument, as in lesson 02. If you pass `s` on to the functions you have
# already written, a long step needs no further thought.

# %% exercise="sampling.ddpm_step" lines=3
# %%
ddpm_step = check(ddpm_step)

# %% [markdown]
# ### The formula in the paper looks different
#
# DDPM's algorithm 2 does not mention $\hat x_0$. Put its definition, unclipped, into $\tilde\mu_t$ and
# sort by $\hat\varepsilon$ and $x_t$. What stands with $\hat\varepsilon$ is, with
# $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$,
#
# $$-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\cdot\frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}}
# = -\frac{\beta_t}{\sqrt{\alpha_t}\,\sqrt{1-\bar\alpha_t}},$$
#
# and what stands with $x_t$ is
#
# $$\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{(1-\bar\alpha_t)\sqrt{\bar\alpha_t}}
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# = \frac{\beta_t + \alpha_t - \bar\alpha_t}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)}
# = \frac{1}{\sqrt{\alpha_t}} .$$
#
# Together that is equation 11 of the paper:
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\;\hat\varepsilon\right).$$
#
# The two are the same number, but the paper's form leaves no place to clip. We keep ours, and check that
# they agree where nothing is clipped.

# %%
betas = cosine_schedule()
t = torch.tensor([1, 100, 500, 900])
xt, eps_hat = (torch.randn(4, 1, 8, 8, generator=generator) for _ in range(2))

ours = posterior_mean(predict_x0(xt, t, eps_hat, alpha_bars), xt, t, alpha_bars)
beta = at(betas, t, xt)
papers = (xt - beta / (1 - at(alpha_bars, t, xt)).sqrt() * eps_hat) / (1 - beta).sqrt()
print(f"largest difference: {(ours - papers).abs().max():.2f}")

# %% [markdown]
# ### A world where the truth is known
#
# Before we trust this with digits, let us try it where every answer can be checked. Our data shall be
# single numbers from two humps: $-0.6$ with probability 0.3 and $0.4$ with probability 0.7, each with
# the standard deviation $c = 0.1$.
#
# Here we need no network, because the best possible $\hat\varepsilon$ can be computed. Suppose $x_0$ comes
# from hump $k$ with mean $m_k$. Then $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ has
# mean $\sqrt{\bar\alpha_t}\,m_k$ and variance $w_t = \bar\alpha_t c^2 + 1 - \bar\alpha_t$, and its covariance
# with $\varepsilon$ is $\sqrt{1-\bar\alpha_t}$. For jointly normal variables, the conditional mean is
# covariance over variance times the deviation:
#
# $$\mathbb E[\varepsilon \mid x_t, k] = \frac{\sqrt{1-\bar\alpha_t}}{w_t}\,(x_t - \sqrt{\bar\alpha_t}\,m_k).$$
#
# We do not know $k$, so we average over it. Each hump is weighted by how probable it is now that $x_t$
# has been seen, which is Bayes' rule once more: $\pi_k\,\mathcal N(x_t; \sqrt{\bar\alpha_t}\,m_k, w_t)$,
# scaled to add up to 1. That scaling is a softmax of the logarithms.

# %%
means, weights, spread = torch.tensor([-0.6, 0.4]), torch.tensor([0.3, 0.7]), 0.1


def mixture_eps(xt: Tensor, t: Tensor) -> Tensor:
    """The best possible prediction, E[ε | x_t], for the two humps. xt: (b, 1); t: (b,)."""
    alpha_bar = at(alpha_bars, t, xt)
    variance = alpha_bar * spread**2 + 1 - alpha_bar
    away = xt - alpha_bar.sqrt() * means  # (b, 2): from the centre of each hump
    share = torch.softmax(weights.log() - away**2 / (2 * variance), dim=1)
    return ((1 - alpha_bar).sqrt() / variance * share * away).sum(dim=1, keepdim=True)


# %% [markdown]
# Four thousand numbers start as noise and take all 1000 steps back, in a loop that is DDPM's algorithm 2,
# line for line.

# %%
x = torch.randn(4000, 1, generator=generator)
walk = [x]
for step in reversed(range(1000)):
    t = torch.full((4000,), step)
    noise = torch.randn(x.shape, generator=generator)
    x = ddpm_step(x, t, mixture_eps(x, t), alpha_bars, noise)
    walk.append(x)
print(f"share of the left hump: {(x < -0.1).float().mean():.1f}, and it should be 0.3")

# %% [markdown]
# On the left are the paths of 40 of them, from noise (left edge) to data (right edge). Watch how late
# they make up their minds. On the right are all 4,000 at the end, and the true density as a line. The
# histogram should fill the line: the heights of the humps, their widths, and the emptiness between.

# %%
def true_density(x: Tensor) -> Tensor:
    humps = torch.exp(-((x[:, None] - means) ** 2) / (2 * spread**2)) / (spread * (2 * torch.pi) ** 0.5)
    return (weights * humps).sum(dim=1)


def compare(axis: plt.Axes, samples: Tensor) -> None:
    """A histogram of samples, and the true density over it."""
    x = torch.linspace(-1.1, 1.1, 400)
    axis.hist(samples.flatten().numpy(), bins=60, range=(-1.1, 1.1), density=True, alpha=0.5)
    axis.plot(x, true_density(x), color=plots.COLOURS[1])


figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
left.plot(range(999, -2, -1), torch.cat(walk, dim=1)[:40].T, linewidth=0.5, color=plots.COLOURS[0])
left.set(xlabel="t", ylabel="x", xlim=(999, -1))
compare(right, x)
right.set(xlabel="$x_0$", ylabel="density");
# %% [markdown]
# <details><summary><b>Think:</b> we put the single number $\hat x_0$ where the formula wants the true $x_0$,
# of which there are many. Why does that not spoil the result?</summary>
#
# It does, a little, at every step. Given only $x_t$, the true step back also varies because $x_0$ varies,
# and a draw around $\hat x_0$ leaves that part out. But $x_0$ enters the mean with a weight of about
# $\beta_t$, so the variance that we forget is of the order of $\beta_t^2$, against the $\tilde\beta_t$ that we
# keep. With 1000 small steps the loss is invisible. With few long steps it is not, as you will soon see.
# The DDPM paper tried $\beta_t$ and $\tilde\beta_t$ for the variance: the first is exact for data that are
# themselves $\mathcal N(0, I)$, the second for data that are a single point. Real data lie between.
# </details>
#
# ## DDIM: fewer steps
#
# A thousand calls of the network for one batch of digits is a lot. Long strides are allowed by our
# formulas, but the last box has just warned us: the longer the step, the worse the draw. Song, Meng and
# Ermon (2021) found a way out, without training anything anew.
#
# Their observation is this. The loss of lesson 03 draws $x_t$ from the closed form, and nothing else.
# It never looks at two noisy images of the same walk. So the network knows $p(x_t \mid x_0)$ for each
# $t$, and does not know *how the $x_t$ are chained together*. Any other process with the same
# $p(x_t \mid x_0)$ could have trained it just as well. So we are free to choose the one that is best for
# walking back.
#
# Let us look for a step from $x_t$ to $x_s$ that uses a share of fresh noise, of any size $\sigma$ that we
# like, and recycles the old noise for the rest:
#
# $$\boxed{\;x_s = \sqrt{\bar\alpha_s}\;x_0 + \sqrt{1-\bar\alpha_s-\sigma^2}\;\varepsilon + \sigma z,
# \qquad \varepsilon = \frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{\sqrt{1-\bar\alpha_t}} .\;}$$
#
# Does it have the right distribution? If $x_t$ came from the closed form, then $\varepsilon$ is its
# standard normal noise, independent of the fresh $z$. So $x_s$ is $\sqrt{\bar\alpha_s}\,x_0$ plus a normal
# variable, with the variance
#
# $$(1-\bar\alpha_s-\sigma^2) + \sigma^2 = 1-\bar\alpha_s .$$
#
# That is $p(x_s \mid x_0)$ exactly, for **every** $\sigma$ between 0 and $\sqrt{1-\bar\alpha_s}$, however long
# the step. To sample, put $\hat x_0$ and $\hat\varepsilon$ in, as before.
#
# It is usual to measure $\sigma$ in units of the ancestral step's: $\sigma = \eta\,\sqrt{\tilde\beta}$.
#
# **$\eta = 1$ is ancestral sampling.** With $\tilde\beta = \frac{1-\bar\alpha_s}{1-\bar\alpha_t}(1-\alpha)$,
#
# $$1-\bar\alpha_s-\tilde\beta = (1-\bar\alpha_s)\,\frac{(1-\bar\alpha_t) - (1-\alpha)}{1-\bar\alpha_t}
# = (1-\bar\alpha_s)\,\frac{\alpha - \alpha\bar\alpha_s}{1-\bar\alpha_t}
# = \frac{\alpha\,(1-\bar\alpha_s)^2}{1-\bar\alpha_t} .$$
#
# The root of this, divided by the $\sqrt{1-\bar\alpha_t}$ inside $\varepsilon$, is what multiplies $x_t$:
# $\sqrt\alpha\,(1-\bar\alpha_s)/(1-\bar\alpha_t)$. That is its weight in $\tilde\mu$. The weight of $x_0$ then
# agrees too, because either step takes $x_t = \sqrt{\bar\alpha_t}\,x_0$ to a mean of $\sqrt{\bar\alpha_s}\,x_0$.
#
# **$\eta = 0$ adds no noise at all.** The walk becomes a fixed function of the noise it started from. This
# is the **DDIM** sampler (denoising diffusion *implicit* model).
#
# ### Exercise: one DDIM step
#
# Two details matter. When $\hat x_0$ has been clipped, $\hat\varepsilon$ no longer fits it, so recompute it
# from the closed form: $\hat x_0$ and $\hat\varepsilon$ together must give $x_t$. And
# $1-\bar\alpha_s-\sigma^2$ can be 0, which rounding may turn into a tiny negative number. Its root would be
# NaN, and so would be the whole image, so clamp it at 0 first.

# %% exercise="sampling.ddim_step" lines=11
# %%
ddim_step = check(ddim_step)

# %% [markdown]
# By hand, with the two levels from the beginning: $x_t = 1.2$ and $\hat\varepsilon = 0.75$. Then
# $\hat x_0 = (1.2 - 0.8\cdot 0.75)/0.6 = 1$, and with $\eta = 0$ the step leads to
# $0.8 \cdot 1 + 0.6\cdot 0.75 = 1.25$.

# %%
levels = torch.tensor([0.64, 0.36])
pixel, eps_hat = torch.full((1, 1), 1.2), torch.full((1, 1), 0.75)
t = torch.tensor([1])

print(f"eta = 0:          {ddim_step(pixel, t, eps_hat, levels).item():.3f}")
for z in (-1.0, 1.0):
    noise = torch.full((1, 1), z)
    by_ddim = ddim_step(pixel, t, eps_hat, levels, eta=1.0, noise=noise).item()
    by_ddpm = ddpm_step(pixel, t, eps_hat, levels, noise).item()
    print(f"eta = 1, z = {z:4}: {by_ddim:.3f}, and ddpm_step says {by_ddpm:.3f}")

# %% [markdown]
# ### Which steps to visit
#
# For `steps` network calls we need that many values of $t$. Two of them are not ours to choose. The walk
# **starts** with pure noise, and $T-1$ is the level that the network knows as pure noise. And it **ends**
# at the data, $s = -1$. So mark the way from $T$ down to 0 in `steps` equal parts, take the marks
# $T - k\,T/\texttt{steps}$ for $k = 0, 1, \dots$, round them, and subtract 1 because `t` counts from 0. For
# T = 10 in five steps:
#
# $$10,\ 8,\ 6,\ 4,\ 2 \quad\longrightarrow\quad t = 9,\ 7,\ 5,\ 3,\ 1 \quad(\text{and then } s = -1).$$
#
# Older code often used the "leading" values 8, 6, 4, 2, 0, which never visit $T-1$. The network is then
# told that pure noise holds a trace of an image, and it duly finds one that is not there.
#
# ### Exercise: the timesteps

# %% exercise="sampling.timesteps" lines=3
# %%
timesteps = check(timesteps)

# %% [markdown]
# ### Exercise: the sampler
#
# Everything comes together. The sampler is a **generator**: it `yield`s the image after each step, so
# whoever calls it can watch, stop early, or keep only the last with `*_, x0 = sample(…)`. It takes
# `eps_model` as an argument and knows nothing about networks. That is what will let later lessons slip
# guidance in between without touching this function.
#
# In each round: ask `eps_model` for the noise at $t$, where $x_t$ *is*; draw fresh noise if $\eta > 0$;
# take one `ddim_step` to $s$; `yield` the result. `pairwise([9, 7, 5])` gives the pairs (9, 7) and (7, 5).
# No gradients are wanted, so `@torch.no_grad()` stands above the function: without it, memory would grow
# with every step. Noise comes from this helper:

# %% inline="sampling.normal_like"
# %% exercise="sampling.sample" lines=8
# %%
sample = check(sample)

# %% [markdown]
# ### Fewer steps, and what $\eta$ does to them
#
# Back to the two humps, where the truth is known. Above, DDIM ($\eta = 0$); below, ancestral steps
# ($\eta = 1$); from left to right, more steps. Compare each histogram with the line. With five steps the
# humps are too narrow, and some numbers are stranded in the valley between. With a hundred, the line
# is filled.

# %%
start = torch.randn(4000, 1, generator=generator)
figure, axes = plt.subplots(2, 4, figsize=(8.4, 4), sharex=True, sharey=True, layout="constrained")
for row, eta in zip(axes, [0.0, 1.0], strict=True):
    for axis, steps in zip(row, [5, 10, 25, 100], strict=True):
        *_, x = sample(mixture_eps, start, alpha_bars, steps=steps, eta=eta, generator=generator)
        compare(axis, x)
        axis.set(title=rf"$\eta$ = {eta:g}, {steps} steps", ylim=(0, 5))
# %% [markdown]
# Why too narrow? The last step returns $\hat x_0$, which is a *mean*, and means vary less than the things
# they are means of. The longer the last step, the more there is to average over. Here $\eta$ makes little
# difference, because our $\hat\varepsilon$ is exact. With a network it does make one, as we will measure.
#
# Now the paths. With $\eta = 0$ they are smooth and, in one dimension, never cross: equal beginnings
# have equal ends, and neighbours stay neighbours. With $\eta = 1$ the same twelve beginnings stagger about,
# and where one ends says little about where it began.

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.8), sharey=True, layout="constrained")
starts = torch.linspace(-2, 2, 12)[:, None]
for axis, eta in zip(axes, [0.0, 0.3, 1.0], strict=True):
    path = [starts, *sample(mixture_eps, starts, alpha_bars, steps=200, eta=eta, generator=generator)]
    axis.plot([*timesteps(1000, 200), -1], torch.cat(path, dim=1).T, linewidth=0.8)
    axis.set(title=rf"$\eta$ = {eta:g}", xlabel="t", xlim=(999, -1))
axes[0].set_ylabel("x");
# %% [markdown]
# ### The smooth paths are an ODE
#
# Divide the DDIM step ($\eta = 0$) by $\sqrt{\bar\alpha_s}$, and write $u = x/\sqrt{\bar\alpha}$ for the image at
# its original size, and $\varsigma = \sqrt{1-\bar\alpha}/\sqrt{\bar\alpha}$ for the noise on it. The step
# becomes $u_s = \hat x_0 + \varsigma_s\hat\varepsilon$, and $\hat x_0$ is $u_t - \varsigma_t\hat\varepsilon$. So
#
# $$u_s = u_t + (\varsigma_s - \varsigma_t)\,\hat\varepsilon .$$
#
# This is a step of Euler's method, of length $\varsigma_s - \varsigma_t$, along the differential equation
# $\mathrm du/\mathrm d\varsigma = \hat\varepsilon$. DDIM follows a fixed curve through each starting noise, and
# more steps follow the same curve more closely. The curve is smooth, so 25 of them already come close. Song et al.
# (2021, *Score-Based Generative Modeling through SDEs*) call this the **probability-flow ODE**. Better
# solvers than Euler's follow it in still fewer steps, and lesson 13 meets its cousin, flow matching.
#
# ## Digits
#
# Now for real. Sixty-four images of pure noise, fifty steps of DDIM, and the shipped network.

# %%
noise = torch.randn(64, 1, 28, 28, generator=generator)
*trajectory, x0 = sample(eps_model, noise, alpha_bars, steps=50)
plots.grid(x0, columns=8).resize((484, 484))

# %% [markdown]
# None of these was ever written by anybody. Judge them yourself: most should be digits at first sight, a
# few will be something between two digits.
#
# Here are the first eight on their way from noise.

# %% tags=["nbval-ignore-output"]
walk = [noise, *trajectory, x0]  # 51 images of each: the noise, and one after every step
plots.animate([x[:8] for x in walk], columns=4, frames=25)

# %% [markdown]
# The same as a strip, for where pictures do not move: four of them, from noise on the left to a digit on
# the right.

# %%
plots.show(plots.strip([x[:4] for x in walk], frames=10), columns=10, size=0.75);
# %% [markdown]
# Every $x_t$ on the way comes with the network's opinion $\hat x_0$ about where it will end. Compare the
# two rows. Long before $x_t$ (above) shows anything to the eye, $\hat x_0$ (below) has a rough shape, and
# from then on it only adds detail: **coarse things are decided early, fine things late**. Lesson 11
# builds a picture editor on this fact.

# %%
picks = [0, 5, 10, 15, 20, 25, 30, 35, 40, 45]
visited = timesteps(1000, 50)
xt = torch.cat([walk[k][1:2] for k in picks])
t = torch.tensor([visited[k] for k in picks])
with torch.no_grad():
    x0_hat = predict_x0(xt, t, eps_model(xt, t), alpha_bars).clamp(-1, 1)
plots.show(torch.cat([xt, x0_hat]), [f"t = {i}" for i in t] + [""] * len(t), columns=len(t), size=0.75);
# %% [markdown]
# ### The ancestral walk
#
# DDPM's algorithm is the same function with other arguments: $\eta = 1$, and as many steps as there are
# levels. To keep this notebook quick we visit every fourth level, and four digits will do. (With
# `steps=1000` it is the original, and takes four times as long.) Each row is one digit. Compare the rows
# with those of the strip above: the noises on the left are the same four, the digits on the right are not.

# %%
*trajectory, x0 = sample(
    eps_model, noise[:4], alpha_bars, steps=250, eta=1.0, generator=generator
)
plots.show(plots.strip([noise[:4], *trajectory, x0], frames=10), columns=10, size=0.75);
# %% [markdown]
# ### Same noise, same digit
#
# With $\eta = 0$ the noise decides everything. Below, six noises, sampled four times. The first two rows
# ($\eta = 0$) must be identical; the other two ($\eta = 1$, with other seeds on the way) must not.

# %%
rows = []
for eta, seed in [(0.0, 1), (0.0, 2), (1.0, 1), (1.0, 2)]:
    seeded = torch.Generator().manual_seed(seed)
    *_, x0 = sample(eps_model, noise[:6], alpha_bars, steps=25, eta=eta, generator=seeded)
    rows.append(x0)
plots.show(torch.cat(rows), columns=6, title=r"above: $\eta = 0$, twice · below: $\eta = 1$, twice", size=0.8);
# %% [markdown]
# So the noise is an *address* of the digit, and we can travel between addresses. A straight line between
# two noises will not do: halfway, $(z_1 + z_2)/2$ has the variance ½, and the network has never seen noise so
# faint. Travel along a **circle** instead, $z(\varphi) = \cos\varphi\; z_1 + \sin\varphi\; z_2$ for $\varphi$ from 0
# to a quarter turn. Its variance is $\cos^2\varphi + \sin^2\varphi = 1$ all the way. Each row below is such a
# journey. Look for digits that turn into each other through shapes that could pass for handwriting.

# %%
angles = torch.linspace(0, torch.pi / 2, 10).reshape(1, 10, 1, 1, 1)
z1, z2 = noise[[0, 8, 16], None], noise[[1, 9, 17], None]
between = angles.cos() * z1 + angles.sin() * z2

*_, x0 = sample(eps_model, between.flatten(0, 1), alpha_bars, steps=25)
plots.show(x0, columns=10, size=0.75);
# %% [markdown]
# <details><summary><b>Think:</b> and what is halfway between two digits themselves, $(x_0 + x_0')/2$?
# </summary>
#
# Two ghosts on top of each other, which is no digit: lesson 01 showed that an average leaves the
# manifold. The circle runs through the *noise*, where everything in between is also noise, and the ODE
# carries each of its points back onto the manifold.
# </details>
#
# ### How few steps are enough?
#
# The same eight noises, in 2, 5, 10, 25 and 50 steps of DDIM. Go up each column from the bottom, and find
# where the digit changes into another one, or falls apart.

# %%
counts = [2, 5, 10, 25, 50]
rows = [list(sample(eps_model, noise[:8], alpha_bars, steps=n))[-1] for n in counts]
figure = plots.show(torch.cat(rows), columns=8, size=0.75)
for axis, n in zip(figure.axes[::8], counts, strict=True):
    axis.set_title(f"{n} steps", fontsize=9, loc="left")
# %% [markdown]
# The eye is soon satisfied, so let us measure. The **Fréchet distance** compares two sets of images by
# the features that a classifier sees in them. The course ships such a judge, a small network that tells
# digits with more than 99 % accuracy. Each set of features is summed up by its mean $\mu$ and covariance
# $\Sigma$, and the distance between the two normal distributions is
#
# $$d^2 = \lVert\mu_a - \mu_b\rVert^2 + \operatorname{tr}\!\big(\Sigma_a + \Sigma_b - 2(\Sigma_a\Sigma_b)^{1/2}\big).$$
#
# It notices both bad digits and missing ones: a sampler that draws one perfect 7 again and again has the
# wrong $\mu$ and $\Sigma$. With Inception features, this is the well-known FID.
#
# One caution. From $N$ images, $\mu$ and $\Sigma$ are only estimated, and the error makes the distance *too
# large*, the more so the smaller $N$. We take $N = 100$ to keep this quick, which is far too few for a
# number worth publishing. So never compare distances at different $N$, and always look at the **floor**:
# the distance of 100 *real* test images, which for infinite $N$ would be almost 0.

# %%
judge = metrics.load_judge()
real = metrics.fit_gaussian(metrics.judge_features(judge, images[:10_000]))
N = 100


def distance(x: Tensor) -> float:
    return metrics.frechet_distance(metrics.judge_features(judge, x), real)


held_out, _ = mnist("test")
floor = sum(distance(x) for x in held_out[: 10 * N].split(N)) / 10

# %%
many = torch.randn(N, 1, 28, 28, generator=generator)
curves = {0.0: [2, 5, 10, 25, 50], 1.0: [5, 10, 25]}
figure, axis = plt.subplots()
for eta, counts in curves.items():
    ends = [list(sample(eps_model, many, alpha_bars, steps=n, eta=eta, generator=generator))[-1]
            for n in counts]
    axis.loglog(counts, [distance(x) for x in ends], "o-", label=rf"$\eta$ = {eta:g}")
axis.axhline(floor, color="grey", linestyle="--", label=f"{N} real images")
axis.set(xlabel="network calls", ylabel=f"Fréchet distance, N = {N}", title="lower is better")
axis.minorticks_off()
axis.set_xticks([2, 5, 10, 25, 50], ["2", "5", "10", "25", "50"])
axis.legend();
# %% [markdown]
# Read the figure from left to right. DDIM improves steeply at first, and from ten or twenty-five calls on
# hardly at all: its curve through each noise has been followed closely enough. What is left between the
# flat end and the dashed line is the network's doing, and no number of steps will remove it. Then compare
# the two colours. With few calls, fresh noise is one more disturbance. With many, it has a use: a walk
# that can still move can undo a mistake that the network made earlier, which a fixed curve cannot.
#
# ### Does it only remember?
#
# A model that stored the training set would also get a good distance. So compare: above are eight
# samples, below each the training image nearest to it, by the difference of pixels. If the pairs were
# *identical*, the network would have memorised. They should instead be alike as two people's handwriting
# is. As a yardstick, we take the same distance for real test digits, which nobody can have memorised.

# %%
def nearest(x: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each image to its nearest training image, and which one that is."""
    return torch.cdist(x.flatten(1), images.flatten(1)).min(dim=1)


*_, drawn = sample(eps_model, noise[:48], alpha_bars, steps=25)
near, which = nearest(drawn)
near_real, _ = nearest(held_out[:48])
plots.show(torch.cat([drawn[:8], images[which[:8]]]), columns=8, size=0.8,
           title="above: samples · below: their nearest training images");

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.hist([near.numpy(), near_real.numpy()], bins=15, label=["48 samples", "48 test digits"])
axis.set(xlabel="distance to the nearest training image", ylabel="how many", xlim=(0, None))
axis.legend();
# %% [markdown]
# The two histograms overlap, and neither comes near 0. This network, with 60,000 images to learn from,
# does not copy. Large models do copy images that occur many times in their training data (Carlini et
# al., 2023), so this is a test worth running on yours.
#
# ## Beside the library
#
# `diffusers` calls the same thing a scheduler. Driven by the same network from the same noise, it must draw
# the same digits. Every argument below is something this lesson has explained, and several of them are
# not the defaults: that is why two honest implementations so often disagree.
#
# We drive it twice, with the network's $v$ and with our $\hat\varepsilon$. The second must agree to the last
# digits. The first takes the short way from $v$ to $\hat x_0$, and our detour through $\hat\varepsilon$ costs the
# rounding that the box on clipping spoke of. One level of grey in an 8-bit image is $2/255 \approx 0.008$.

# %%
from diffusers import DDIMScheduler


def by_diffusers(kind: str, model: EpsModel) -> tuple[DDIMScheduler, Tensor]:
    """Fifty steps of DDIM with `diffusers`, from the first eight noises."""
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=kind, clip_sample=True,
        timestep_spacing="trailing", set_alpha_to_one=True,
    )
    scheduler.set_timesteps(50)
    x = noise[:8]
    with torch.no_grad():
        for t in scheduler.timesteps:
            output = model(x, t.expand(len(x)))
            x = scheduler.step(output, t, x, use_clipped_model_output=True).prev_sample
    return scheduler, x


*_, ours = sample(eps_model, noise[:8], alpha_bars, steps=50)
scheduler, from_eps = by_diffusers("epsilon", eps_model)
_, from_v = by_diffusers("v_prediction", network)

print("the same timesteps:", scheduler.timesteps.tolist() == timesteps(1000, 50))
print("driven with noise, the same images to 1e-4:", bool((ours - from_eps).abs().max() < 1e-4))
print("driven with v, on average to a level of grey:", bool((ours - from_v).abs().mean() < 2 / 255))

# %% [markdown]
# ## Recap
# 1. Given $x_0$, the step back is Bayes' rule with three normal densities; completing the square gives its
#    mean $\tilde\mu$, a weighted sum of $x_0$ and $x_t$, and its variance $\tilde\beta$.
# 2. $x_0$ is not available during sampling. The closed form turns the predicted noise into
#    $\hat x_0$, which is clipped to [−1, 1].
# 3. DDPM draws each step from that posterior, and adds no noise at the last.
# 4. DDIM keeps the marginals and chooses how much of the noise is fresh: $\eta = 1$ is DDPM, $\eta = 0$ is
#    deterministic, follows an ODE, and needs some 25 steps instead of 1000.
# 5. Judge a sampler by numbers with their $N$ and their floor, and ask whether it copies.
#
# **What can go wrong.** `alpha_bars[-1]` where the data are meant. Noise added at the last step. $\beta$ for
# $\tilde\beta$, or a variance where its root belongs. $\hat x_0$ clipped and $\hat\varepsilon$ left as it was. The
# network told $s$ instead of $t$. Timesteps that never visit $T-1$. A network that predicts $v$ and a sampler
# that takes it for $\varepsilon$, which gives noise and no error message. Distances compared at different $N$.
#
# **Read on.** Ho, Jain & Abbeel, *Denoising Diffusion Probabilistic Models* (arXiv 2006.11239), sections
# 2 and 3. Song, Meng & Ermon, *Denoising Diffusion Implicit Models* (arXiv 2010.02502). Song et al.,
# *Score-Based Generative Modeling through SDEs* (arXiv 2011.13456). Salimans & Ho, *Progressive
# Distillation* (arXiv 2202.00512), appendix D, for $v$. Lin et al., *Common Diffusion Noise Schedules and
# Sample Steps are Flawed* (arXiv 2305.08891), for the last timestep. Karras et al., *Elucidating the
# Design Space of Diffusion-Based Generative Models* (arXiv 2206.00364), for better solvers. Heusel et al.
# (arXiv 1706.08500) for the FID, Chong & Forsyth (arXiv 1911.07023) for its bias, and Carlini et al.
# (arXiv 2301.13188) for memorised images. To watch: Yang Song's talk *Diffusion and Score-Based
# Generative Models* (youtube.com/watch?v=wMmqCMwuM2Q), and Hung-Yi Lee's and Jia-Bin Huang's channels.
#
# **Next.** All this ran on 28 × 28 pixels. Lesson 05 asks how to afford it for large images.
