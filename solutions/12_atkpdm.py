# %% [markdown]
# # 12 · AtkPDM: protecting a picture against diffusion editing
#
# **After this lesson you can**
# - attack a diffusion model through its features: find the layer, measure the distance of two clouds of
#   features, and climb it inside two budgets;
# - compare protectors fairly (one true PSNR, shared seeds, intervals, floors) and say what is left of them
#   after a JPEG, a blur, another network, another $t$;
# - take a published measurement apart, and tell a photographer honestly what such a protection is worth.
#
# **Time:** about 2½ hours. **Needs:** lesson 11 (the editor), lesson 05 for one section (a VAE), and a
# steady hand: this lesson contains more ways to fool oneself than any other.

# %%
import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown
from torch import Tensor, nn

from course import plots
from course.atkpdm import Budget, Victim
from course.atkpdm.attack import NoisyLoss, Purify, refuse_strangers, within
from course.atkpdm.autopsy import washed_out
from course.atkpdm.baselines import white_noise
from course.atkpdm.budgets import (
    RANGE, Loss, at_psnr, radius, random_start, scaled, settle, slope, ssim
)
from course.atkpdm.distance import (
    PUBLISHED_FLOOR, Distance, feature_l2, positions, wasserstein2
)
from course.atkpdm.evaluation import (
    COLUMNS, FLOOR, damage, edit_ssims, edited, markdown, purifier_matrix
)
from course.atkpdm.methods import protected
from course.atkpdm.purifiers import Purifier, jpeg
from course.atkpdm.victims import AllHeardError, features, load_victim, outer_layers
from course.atkpdm.worlds import load_world, pictures
from course.checks import check, hint
from course.errors import CourseError
from course.forward_process import at, q_sample
from course.latent_diffusion import psnr
from course.plots import to_uint8
from course.sampling import normal_like

plots.set_style()

# %% [markdown]
# ## The question
#
# The last lesson ended with an editor that asks nobody's leave. The lecture's question is: *how to protect
# our image against diffusion-based editing?* And its answer: *we can approach this goal as an adversarial
# attack to the diffusion models.* Before a picture is published, change it a little, in a way that people
# do not see and that the model's edit cannot survive.
#
# **Who plays.** The *editor* has your published picture and a diffusion model of pixels (a **PDM**, as the
# paper says): SDEdit, noise to $t$ and walk back. The *protector*, that is you, moves first, may change the
# picture within a budget, and knows the model. Both assumptions are generous to the protector. The editor
# moves second, and may do whatever helps; we shall come back to that.
#
# Why is there a paper about *pixel-domain* models at all? Because against latent diffusion protection is
# easy in one respect: there, the picture first goes through an encoder, a small network without any noise,
# and a perturbation that confuses the encoder has confused all that follows. A PDM has no encoder. The first
# thing that happens to your perturbation is that it is buried in noise.
#
# Here is our first victim, lesson 03's network, and the digits to protect. From which $t$ does the editor
# edit? The paper says $t = 500$, at 256 pixels and under the linear schedule. Lesson 11 translates: the same
# signal-to-noise ratio, at equal detail, for 28 pixels and the cosine schedule.

# %%
world = load_world("mnist-ddpm")
victim, x = world.victim, pictures(world, 8)
print(f"t = {world.t}; pictures {tuple(x.shape)}; the layer that will be attacked: {victim.layers}")

# %% [markdown]
# `edited(victim, x, t, seed)` is lesson 11's `sdedit` with 20 calls, and its noises depend on the seed alone:
# two pictures edited with one seed differ only by what the pictures themselves differ by. Below: digits, an
# edit, and an edit with **another seed**. Keep the last row in mind. It is the first of two floors: an
# attack that does less than another seed has not done much.

# %%
def rows(sets: Sequence[Tensor], names: Sequence[str], size: float = 0.85) -> None:
    """Rows of pictures, each row with its name above."""
    figure = plots.show(torch.cat(list(sets)), columns=len(sets[0]), size=size)
    for axis, name in zip(figure.axes[:: len(sets[0])], names, strict=True):
        axis.set_title("t", color="none", fontsize=9)
        axis.annotate(name, (0, 1.1), xycoords="axes fraction", fontsize=9).set_in_layout(False)


clean = edited(victim, x, world.t)
another_seed = edited(victim, x, world.t, seed=1)
rows([x, clean, another_seed], ["pictures", "edits", "edits with another seed"])
# %% [markdown]
# ## Where a network can be hurt
#
# To attack, one needs a number to make large. The obvious one is the network's own loss (AdvDM, further
# down). AtkPDM looks inside instead: it pushes the **features** of the middle block, where the network holds
# its coarsest idea of the picture, away from where they belong.
#
# PyTorch gives access to the inside of any network by a **forward hook**: a function that a module calls
# after each of its runs, with its output. Three things go wrong with hooks. They are forgotten, stay in the
# network and keep every later output alive. They are not removed when the call breaks. And they listen to a
# layer that does not exist, because of a typing error. One thing can be won: when the last layer has spoken,
# the rest of the network need not run, and for the middle block that is more than half of the price.
#
# ### Exercise: what layers put out
#
# `AllHeardError` is an exception of ours, to be raised in a hook and swallowed around `run()`;
# `outer_layers(modules)` lists a network's layers for the message of a ValueError.

# %% exercise="atkpdm.victims.layer_outputs" lines=16
# %%
layer_outputs = check(layer_outputs)

# %% [markdown]
# Stuck? `hint(layer_outputs)` says a little more with each call.

# %%
with torch.no_grad():
    t = torch.full((len(x),), world.t)
    xt = q_sample(x, t, normal_like(x, torch.Generator().manual_seed(0)), victim.alpha_bars)
    found = layer_outputs(victim.network, ["down1", "down2", "middle"], lambda: victim.network(xt, t))
print({name: tuple(h.shape) for name, h in found.items()})

# %% [markdown]
# The middle block sees 7 × 7 **positions** with 64 channels each. Look at some channels of the first digit,
# and find the digit in them.

# %%
maps = found["middle"][0, :20, None]
plots.show(maps / maps.abs().amax(dim=(2, 3), keepdim=True), columns=10, size=0.7);
# %% [markdown]
# ## How far apart are two feature maps?
#
# The plain answer is the squared difference, position by position. The paper asks another question: is this
# still the same *population* of features, wherever each of them stands? Take a map's $n = h\cdot w$
# positions as $n$ points in $c$ dimensions, fit a Gaussian $\mathcal N(\mu, \Sigma)$ to them, and compare
# the Gaussians, by the squared **2-Wasserstein distance**, the least mean squared way on which one cloud
# can be carried to the other.
#
# ### By hand
#
# In one dimension, the cheapest way to carry $\mathcal N(m_1, s_1^2)$ to $\mathcal N(m_2, s_2^2)$ is to
# shift and to stretch, and the mean squared way is
#
# $$W_2^2 = (m_1 - m_2)^2 + (s_1 - s_2)^2 = (m_1-m_2)^2 + s_1^2 + s_2^2 - 2 s_1 s_2 .$$

# %%
a, b = torch.tensor([-1.0, 1.0]), torch.tensor([2.0, 6.0])
m1, m2 = a.mean(), b.mean()
s1, s2 = (a - m1).square().mean().sqrt(), (b - m2).square().mean().sqrt()
print(f"means {m1:.0f} and {m2:.0f}, spreads {s1:.0f} and {s2:.0f}:",
      f"W² = {(m1 - m2) ** 2 + (s1 - s2) ** 2:.0f}")

# %% [markdown]
# ### In many dimensions
#
# Spreads become covariance matrices, and the product $s_1 s_2$ becomes the trace of a root (Dowson & Landau,
# 1982):
#
# $$W_2^2 = \|\mu_x-\mu_y\|^2 + \operatorname{tr}\Sigma_x + \operatorname{tr}\Sigma_y
# - 2\operatorname{tr}\bigl(\Sigma_x^{1/2}\,\Sigma_y\,\Sigma_x^{1/2}\bigr)^{1/2} .$$
#
# You know this formula: it is lesson 04's Fréchet distance. There it compared thousands of pictures and
# nobody asked for a gradient. Here it is climbed, $\Sigma$ is $c \times c$ with $c$ larger than $n$, and so
# it is *singular*; the roots' gradient, which divides by gaps between eigenvalues, does not exist.
#
# It need not be taken. Let $X, Y$ be the centred rows, $n \times c$, so that $\Sigma_x = X^\top X/n$. Write
# the singular value decomposition $X = U S V^\top$. Then $\Sigma_x^{1/2} = V S V^\top/\sqrt n$, and
#
# $$\Sigma_x^{1/2}\,\Sigma_y\,\Sigma_x^{1/2} = \tfrac1{n^2}\, V S V^\top Y^\top Y\, V S V^\top
# = \tfrac1{n^2} M^\top M, \qquad M = Y\,V S V^\top .$$
#
# The trace of the root of $M^\top M$ is the sum of $M$'s singular values. Multiplying by matrices with
# orthonormal columns does not change those, so they are the singular values of $Y V S U^\top = Y X^\top$:
#
# $$\operatorname{tr}\bigl(\Sigma_x^{1/2}\Sigma_y\Sigma_x^{1/2}\bigr)^{1/2}
# = \tfrac1n\,\|X Y^\top\|_* ,$$
#
# the **nuclear norm** of an $n\times n$ matrix. No root, no eigenvector, nothing divided by a gap, and
# exact where the covariances are singular. (It is also faster where $c$ is much larger than $n$:
# `python -m tests.benchmarks feature-distance`.)
#
# ### Exercise: the Wasserstein distance
#
# `positions(features)` gives a map's mean $(b, c)$ and centred rows $(b, n, c)$.

# %% exercise="atkpdm.distance.wasserstein2" lines=8
# %%
wasserstein2 = check(wasserstein2)

# %% [markdown]
# What does it see, and what not? It is zero under *every permutation of the positions*: a picture whose
# features were shuffled like a deck of cards counts as the same population. The plain distance is large
# there. And the plain distance is never the smaller one: it is the cost of one particular way to carry the
# cloud.

# %%
h = found["middle"].double()
shuffled = h.flatten(2)[..., torch.randperm(49, generator=torch.Generator().manual_seed(0))].reshape(h.shape)
other = h.roll(1, dims=0)
for name, g in {"itself": h, "shuffled": shuffled, "another digit": other}.items():
    w, plain = wasserstein2(h, g).clamp(min=0).sqrt().mean(), feature_l2(h, g).sqrt().mean()
    print(f"{name:14} W {w:4.1f}   plain {plain:4.1f}")

# %% [markdown]
# ### Reading code critically
#
# The authors published their code, which is a gift: what a formula in a paper leaves open, code must decide.
# Its feature distance, up to a scale factor, is
#
# $$d = \operatorname{mean}\,(\mu_x-\mu_y)^2 + \operatorname{tr}S_x + \operatorname{tr}S_y
# - 2\sum_{i=1}^{c}\sqrt{\max(\lambda_i, 0.1)},$$
#
# where $S = X^\top X$ is the **scatter** matrix (not divided by $n$), and $\lambda_i$ are the eigenvalues of
# $S_x^{1/2} S_y S_x^{1/2}$. Before you write it down: what will $d(x, x)$ be? How many of the $\lambda_i$
# are 0 when $n < c$?
#
# ### Exercise: the published variant
#
# Write what it does, not what it should do.

# %% exercise="atkpdm.distance.published_distance" lines=7
# %%
published_distance = check(published_distance)

# %%
equal = torch.randn(1, 64, 7, 7, generator=torch.Generator().manual_seed(0))
print(f"n = 49, c = 64: d(x, x) = {published_distance(equal, equal).item():.2f}")
print(f"−2 · (64 − 48) · √0.1  = {-2 * 16 * 0.1 ** 0.5:.2f}")

# %% [markdown]
# A distance below zero between equal things, and by how much depends on the layer's shape: $n$ centred
# points span $n - 1$ dimensions, and each of the other $c - n + 1$ eigenvalues counts as 0.1. A clipped
# eigenvalue also has no slope. So whatever moves *new* directions into the cloud is invisible until it is
# large. The scatter multiplies all but the mean's term by $n$, so that the means hardly count.
#
# <details><summary><b>Think:</b> does that make the paper's results wrong?</summary>
#
# No. An attack needs a direction, not a distance, and the sign of this one's slope is often that of the
# right one. It means that the loss in the code is not the formula in the text, that its values cannot be
# compared between layers, and that a reader who reports "the W₂ distance" by this code reports something
# else. The variant is a row in our table, so that you can see how much it matters.
# </details>
#
# ## The loss
#
# The editor noises the picture before the network sees it. So the attack compares what the network makes of
# *noised* pictures, and with **the same noise for both**: otherwise the difference of two noises, which is
# far larger than any perturbation, is what is measured.
#
# $$\mathcal L(x_{\text{adv}}; t, \varepsilon) = \sum_{\text{layers}}
# W_2^2\bigl(\phi(\sqrt{\bar\alpha_t}\,x_{\text{adv}} + \sqrt{1-\bar\alpha_t}\,\varepsilon,\ t),\;
# \phi(\sqrt{\bar\alpha_t}\,x + \sqrt{1-\bar\alpha_t}\,\varepsilon,\ t)\bigr).$$
#
# ### Exercise: the feature loss
#
# `features(victim, xt, t)` calls `layer_outputs` for the victim's layers.

# %% exercise="atkpdm.attack.feature_loss" lines=4
# %%
feature_loss = check(feature_loss)

# %% [markdown]
# Which noise, and which $t$? The editor will draw ones that we cannot know. So we climb the *mean* over
# them, which is known as **expectation over transformations** (EOT, Athalye et al. 2018): fresh draws in
# every step.
#
# ### Exercise: the mean over draws
#
# It returns a function. What is drawn inside is drawn anew at each call.

# %% exercise="atkpdm.attack.over_noise" lines=9
# %%
over_noise = check(over_noise)

# %% [markdown]
# ### A place without a slope
#
# With the same noise, value *and gradient* of this loss are zero at $x_{\text{adv}} = x$: it is the bottom
# of a valley. An attack that starts there and steps by the sign of the gradient follows the sign of
# **rounding errors**. Compare the gradient at $x$ with the one at a random point inside the budget:

# %%
loss = over_noise(lambda *given: feature_loss(victim, *given), x, (world.t, world.t), 1,
                  torch.Generator().manual_seed(0))
start = random_start(x, 20, torch.Generator().manual_seed(1))
at_x, at_start = (slope(loss, z).abs().mean() for z in (x, start))
print("the slope at x is below a hundredth of the slope at a random start:", bool(at_x < at_start / 100))

# %% [markdown]
# ## Two budgets
#
# ### True PSNR
#
# "Imperceptible" needs a number. The plainest is lesson 05's **peak signal-to-noise ratio**,
# $10\log_{10}(\text{peak}^2/\text{mean squared error})$ in decibels, where the peak is the range of the
# values. By hand: a picture in $[-1, 1]$, every pixel off by 0.2. The range is 2, so that is a tenth of it,
# and the PSNR is $10 \log_{10}(4/0.04) = 20$ dB. For orientation, here is one digit with white noise at four
# values.

# %%
noisy = [white_noise(x[:1], db, torch.Generator().manual_seed(0)) for db in (15, 20, 25, 35)]
plots.show(torch.cat([x[:1], *noisy]), ["original", "15 dB", "20 dB", "25 dB", "35 dB"]);
# %% [markdown]
# ### A real projection
#
# A budget that is not enforced is a wish. After each step the picture must return into the set of allowed
# pictures: no worse than so many dB, *and* in $[-1, 1]$. The set is the intersection of a ball and a box,
# and we want its point that is nearest to where the step ended. Minimise $\|z - v\|^2$ under
# $\|z-x\|^2 \le r^2$ and $-1\le z\le 1$. With a multiplier $\lambda \ge 0$ for the ball,
#
# $$\|z-v\|^2 + \lambda\,\|z-x\|^2 = (1+\lambda)\left\|z - \frac{v+\lambda x}{1+\lambda}\right\|^2
# + \text{const},$$
#
# and in a box each pixel can be minimised on its own, so $z$ is the *clipped* point in the brackets:
#
# $$z = \operatorname{clip}\bigl(x + s\,(v - x)\bigr), \qquad s = \frac{1}{1+\lambda}\in[0,1].$$
#
# One number $s$ for each picture. The length of $z - x$ grows with it, so it is found by halving an interval:
# the largest $s$ that the ball allows. Projecting first on the ball and then on the box, or the other way
# round, gives another point, and in one of the orders one that is not allowed.
#
# ### Exercise: the border
#
# `scaled(x, delta, s)` is $\operatorname{clip}(x + s\,\delta)$. The search goes from 0 to `most`, which is 1
# for a projection. With a larger `most` the same function makes a perturbation *larger*, up to an exact
# PSNR (`at_psnr`), which is how methods are compared at equal cost.

# %% exercise="atkpdm.budgets.border_scale" lines=8
# %%
border_scale = check(border_scale)

# %% inline="atkpdm.budgets.project"
# %%
far_off = x + torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
print("PSNR after projecting on 20 dB:", [f"{v:.2f}" for v in psnr(x, project(far_off, x, 20)).tolist()[:4]])

# %% [markdown]
# ### A budget of appearance
#
# Two perturbations of one PSNR can look very different. AtkPDM therefore has a second budget, a
# **perceptual distance** to the original of at most $\delta$: the distance of the features of a network that
# was trained to see (the paper takes VGG's; here it is lesson 04's judge for digits and the tiny image
# encoder for scenery, both in the form of LPIPS, without its learned weights).
#
# There is no formula for a projection on that. So one goes down its slope until the budget holds. How far
# in one step? If the distance were linear, $d(z - \eta g) = d(z) - \eta\|g\|^2$, and it would be $\delta$ at
# $\eta = (d - \delta)/\|g\|^2$. It is not linear, so look again, and step again, with the distance **and its
# gradient taken anew**. (The published code takes the gradient once and uses it in every round of the
# loop. What it then descends is no longer the distance.)
#
# ### Exercise: back to a faithful picture
#
# `slope(distance, z)` is the gradient, for each picture its own.

# %% exercise="atkpdm.budgets.keep_faithful" lines=9
# %%
keep_faithful = check(keep_faithful)

# %% [markdown]
# ## AtkPDM
#
# Everything is there. The algorithm alternates: a step up the feature loss by the *sign* of its gradient,
# then back into the budgets.
#
# ### Exercise: the climb
#
# It is a generator, like every loop of this course. A gradient that is not finite ends it, and the last good
# picture stands.

# %% exercise="atkpdm.attack.ascend" lines=9
# %%
ascend = check(ascend)

# %% [markdown]
# And so the whole attack is a few lines. `within` is the two budgets one after the other, and `settle`, at
# the end, draws a picture towards the original if the second budget does not hold to the last digit.

# %% inline="atkpdm.attack.atkpdm"
# %% [markdown]
# Protect the eight digits, at 20 dB and $\delta = 0.15$. The first row are the pictures, the second the
# protected ones, the third their edits, and the fourth the edits of the clean pictures. Is this protection?
# Look for yourself before you read on.

# %%
budget = Budget(psnr=20, delta=0.15, steps=40, draws=1, levels=(world.t // 2, world.t))
*_, x_adv = atkpdm(victim, x, budget, perceptual=world.perceptual, generator=torch.Generator().manual_seed(0))
harmed = edited(victim, x_adv, world.t)
rows([x, x_adv, harmed, clean],
     ["pictures", "protected by AtkPDM", "their edits", "edits of the clean pictures"])
# %% [markdown]
# The digits have lost ink and contrast, and their edits are thinner. That is a coarse change: the noise does
# not bury it. It is also a change that *comes through*. How much of the damage is more than that is a
# question for the table below.
#
# <details><summary><b>Think:</b> 20 dB is a lot. Why so much, and what would 30 dB do?</summary>
#
# A digit of 28 pixels has few pixels to hide anything in, and the noise of the edit is added to each of
# them. Try `psnr=30` in the cell above. The larger a picture, the more pixels a perturbation can be spread
# over, and the less each must change: the same argument as lesson 11's for $t$, turned against the editor.
# </details>
#
# ## The other protectors
#
# To know what AtkPDM's *idea* is worth we need other ideas at the same cost.
#
# **AdvDM** (Liang et al. 2023) makes the network's own loss large: $\|\hat\varepsilon(x_t, t) -
# \varepsilon\|^2$, with the gradient through the whole network.
#
# ### Exercise: the denoising loss

# %% exercise="atkpdm.baselines.denoising_loss" lines=2
# %%
denoising_loss = check(denoising_loss)

# %% [markdown]
# **Diff-Protect** (Xue et al. 2024) saves the way back through the network. The gradient of
# $\tfrac12\|\hat\varepsilon - \varepsilon\|^2$ is $\sqrt{\bar\alpha_t}\,J^\top(\hat\varepsilon-\varepsilon)$
# with $J$ the network's Jacobian; **score distillation** (from DreamFusion) leaves $J$ out. Their surprise
# was that going *down* this loss protects too: it pulls the picture to where the model finds it plausible,
# which blurs it.
#
# ### Exercise: the gradient without the Jacobian

# %% exercise="atkpdm.baselines.sds_gradient" lines=2
# %%
sds_gradient = check(sds_gradient)

# %% [markdown]
# And then the controls, without which no number means anything:
#
# - **white noise** and **smooth noise**: what does *any* perturbation of this size do?
# - **another picture's**: AtkPDM's own perturbations, each added to the wrong picture. What remains of the
#   effect was not aimed at the picture;
# - an **untrained surrogate**: the same attack on the same architecture with random weights. What remains
#   needed no knowledge of the victim;
# - **random steps within δ**, and **AdvDM within δ**: AtkPDM differs from AdvDM in its loss *and* in its
#   second budget. Change one thing at a time.
#
# ## Measuring
#
# For each picture, edit the clean and the protected one with the same seed, and compare the two edits:
# SSIM (structural similarity, 1 for equal pictures), PSNR, the perceptual distance, and whether the edit
# still *means* the same (for digits, whether the judge reads the same number). Beside it stands
# **carry-over**, the SSIM of an edit and *its own input*. If the edit of a protected picture looks unlike
# the clean edit only because the perturbation came through it, then nothing was prevented: the editor got
# an edit of the picture that you published.
#
# ### How sure?
#
# Eight digits are few. The **bootstrap** says how much the mean would move with other digits: draw $n$ of
# the $n$ values, *with replacement*, average, repeat 2,000 times, and cut 2.5 % from either end.
#
# ### Exercise: the interval

# %% exercise="atkpdm.evaluation.bootstrap_interval" lines=6
# %%
bootstrap_interval = check(bootstrap_interval)

# %%
low, high = bootstrap_interval(torch.tensor([0.0, 1.0] * 4))
print(f"eight values, half of them 1: the mean is 0.50 [{low:.2f}, {high:.2f}]")

# %% [markdown]
# Now the table, here with eight digits and short attacks so that it takes seconds. The full one is
# `python -m course evaluate protection --victim mnist-ddpm --psnr 20`, and the README's rows come from
# `python -m tests.benchmarks protection-digits`. Read it from the second row: how much is *another seed*?

# %% tags=["nbval-ignore-output"]
names = ["white noise", "smooth noise", "random steps within δ", "AdvDM", "AdvDM within δ",
         "Diff-Protect, down", "AtkPDM without δ", "AtkPDM", "AtkPDM, another's",
         "AtkPDM, untrained surrogate"]
short = replace(budget, steps=15)
shields = {name: protected(name, world, x, short) for name in names}
table = damage(world, x, shields)
columns = {k: COLUMNS[k] for k in ("psnr", "perceptual", "edit_ssim", "edit_psnr", "carry_over", "meaning")}
Markdown(markdown(table, columns, "protection"))
# %% [markdown]
# What to see in it:
#
# - **AdvDM does next to nothing** to the edit, less than white noise of the same size does. Its perturbation
#   is fine-grained, and the noise of the edit buries it. This is Xue & Chen's finding (2024, *Pixel is a
#   barrier*): pixel-domain models are robust against the attacks that were made for latent ones.
# - **AtkPDM does more**, and most of all *with* its second budget, which forbids what the eye sees and the
#   noise hides anyway. This is the lecture's "robust to pixel-level, susceptible to perceptual-level
#   perturbation". AdvDM within the same δ does not come near it, so the loss matters as well as the budget.
#   (All are scaled to exactly 20 dB at the end, because a comparison needs one cost. That can take the
#   perceptual distance above δ again; its column says by how much.)
# - **Beside another seed** it is not large: compare the two intervals.
# - **And look at the controls.** Its perturbations on the *wrong* pictures do a part of the same. And in the
#   last column the judge reads the digit in the edit, protected or not. The edit was made worse. It was not
#   prevented.
#
# The same numbers as a picture. The bars are 95 % intervals, the grey band is another seed of the clean edit.

# %%
figure, axis = plt.subplots(figsize=(7, 3.6))
for k, name in enumerate(names):
    values = table[name]["edit_ssim"]
    low, high = bootstrap_interval(values)
    axis.plot([low, high], [k, k], color=plots.COLOURS[0], linewidth=3)
    axis.plot(values.mean(), k, "o", color=plots.COLOURS[1])
floor = bootstrap_interval(table[FLOOR]["edit_ssim"])
axis.axvspan(*floor, color="grey", alpha=0.25, linewidth=0)
axis.set(yticks=range(len(names)), yticklabels=names, xlabel="SSIM of edit and clean edit (1: no effect)")
axis.invert_yaxis()
# %% [markdown]
# ### How far does the editor go?
#
# The protection was made for one range of $t$. The editor chooses another. With less noise, more of the
# perturbation comes through, whatever it is. With more noise less of it does, but the walk back is longer, and
# small differences grow on the way: look at what white noise does at the right end.

# %%
figure, axis = plt.subplots()
levels = [60, world.t, 450, 700]
chosen = {name: shields[name] for name in ("white noise", "AdvDM", "AtkPDM", "AtkPDM, another's")}
tables = [edit_ssims(victim, x, chosen, t) for t in levels]
for name in chosen:
    axis.plot(levels, [float(row[name].mean()) for row in tables], "o-", label=name)
axis.set(xlabel="t from which the editor edits", ylabel="SSIM of edit and clean edit")
axis.legend();
# %% [markdown]
# ## In colour, and through a VAE
#
# From digits to scenery: the second victim is a pixel-domain DDPM in the field's own format (a `UNet2DModel`
# in a `DDPMPipeline` folder), at 64 × 64 pixels. It predicts $v$; `load_victim` turns that into
# $\hat\varepsilon$ as in lesson 04, and everything above runs as it is. A full-size victim is loaded by the
# same function, `load_victim("google/ddpm-cat-256")`, on a GPU.
#
# **AtkPDM+** moves the search. A step in pixel space can go anywhere, also where no picture is. The paper
# therefore encodes the picture once with a **VAE** that has nothing to do with the victim, and climbs in its
# latent space:
#
# $$z \leftarrow z + \gamma\,\operatorname{sign}\nabla_z\,\mathcal L(\mathcal D(z)), \qquad
# z \leftarrow z - \eta\,\nabla_z\, d\bigl(\mathcal D(z), x\bigr)\ \text{ while } d > \delta .$$
#
# Decode, noise, attack, and back *through the decoder*. What comes out of a decoder looks like a picture, so
# the perturbation lies along the manifold of lesson 01 and not across it.
#
# There is a catch that the table must not hide: $\mathcal D(\mathcal E(x)) \ne x$. The VAE's own blur costs
# PSNR before any attack. The option `residual=True`, ours, adds back what the VAE lost, $x -
# \mathcal D(\mathcal E(x))$; both versions are in the table.
#
# Here the climb is the same `ascend`, on $z$, and `keep_faithful` the same too: neither asks what its
# variable is.

# %% tags=["nbval-ignore-output"]
scenery = load_world("scenery-pixel-a")
scenes = pictures(scenery, 3)
with torch.no_grad():
    through = scenery.vae.decode(scenery.vae.encode(scenes).latent_dist.mean).sample.clamp(-1, 1)
rows([scenes, through], ["held-out scenes", "through the VAE and back"], size=1.2)

# %%
colour = Budget(psnr=25, delta=0.15, steps=10, draws=1, levels=(scenery.t // 2, scenery.t))
guarded = {name: protected(name, scenery, scenes, colour) for name in ("AdvDM", "AtkPDM", "AtkPDM+")}
before = edited(scenery.victim, scenes, scenery.t)
shown, titles = [before], ["edits of the clean scenes"]
for name, pictures_ in guarded.items():
    shown += [pictures_, edited(scenery.victim, pictures_, scenery.t)]
    titles += [f"protected by {name}", f"their edits ({name})"]
rows(shown, titles, size=1.2)
# %% [markdown]
# At 25 dB, one row of protected pictures for each method and one of their edits; compare each with the first
# row. The numbers, for 24 scenes and with every method, come from `python -m tests.benchmarks
# protection-scenes` or, as one page of tables, from `python -m course evaluate protection`. Three pictures and
# 10 steps, as here, are for looking. In the full table look at the row "another seed of the clean edit" first:
# at this $t$ the editor's own dice change an edit, and no protector in the table comes near them. Then at
# "another's": how much of AtkPDM's effect needs *this* picture?
#
# ## The editor moves second
#
# So far the editor took what was published. Let it do one thing first, something that every website does
# anyway: save as JPEG, blur, resize, round. Or noise a little and denoise, **DiffPure** (Nie et al. 2022),
# which is SDEdit once more, this time as a cleaner.
#
# The matrix below is read by rows (protectors) and columns (purifiers). It holds the SSIM with the edit of
# the clean, unpurified picture. **The first row is the one to compare with**: purified *clean* pictures. A
# blur alone changes the edit; a protector deserves credit only for what lies below that row. In the last
# column an adaptive editor tries all and keeps the best for each picture.

# %% tags=["nbval-ignore-output"]
matrix = purifier_matrix(world, x, {name: shields[name] for name in ("white noise", "AtkPDM")})
turned = {name: {p: row[name] for p, row in matrix.items()} for name in matrix["none"]}
Markdown(markdown(turned, corner="protection"))

# %% [markdown]
# The protector can answer: take the purifiers into the expectation, one at a time, so that the perturbation
# has to survive them. But rounding, a JPEG file and a sampler have no useful gradient. The usual way out is
# the **straight-through** trick: the purifier's value, and the identity's gradient.
#
# $$f(x) = x + \operatorname{stop}\bigl(\text{purify}(x) - x\bigr)$$
#
# ### Exercise: straight through
#
# It takes a purifier and returns one.

# %% exercise="atkpdm.purifiers.straight_through" lines=1
# %%
straight_through = check(straight_through)

# %%
*_, hardened = atkpdm(victim, x, short, perceptual=world.perceptual,
                      purify=straight_through(jpeg), generator=torch.Generator().manual_seed(0))
rows([shields["AtkPDM"], hardened], ["AtkPDM", "AtkPDM through JPEG"])

# %% [markdown]
# `AtkPDM, through purifiers` in the table is that, over all of them. It is an arms race in which one side
# publishes once, and the other may wait.
#
# ### Another editor
#
# The attack read the victim's weights. Will it work on a network that it has not seen? The second shipped
# victim has other widths and another seed. Where it is not there yet, the cell asks the question the other
# way round: perturbations made on an *untrained* twin, edited by the trained victim.

# %% tags=["nbval-ignore-output"]
try:
    editor, shown = load_victim("scenery-pixel-b"), {"AtkPDM, made on the first": guarded["AtkPDM"]}
except CourseError:
    print("scenery-pixel-b is not here: an untrained surrogate stands in for the protector's model.")
    editor = scenery.victim
    shown = {"AtkPDM, made on an untrained twin": protected("AtkPDM, untrained surrogate", scenery, scenes, colour)}
print(f"edits by {editor.name}")
Markdown(markdown({"SSIM of edit and clean edit": edit_ssims(editor, scenes, shown, scenery.t)}))

# %% [markdown]
# ## A metric autopsy
#
# Four mistakes, each found in published or shared code of this field, and each of which makes a protection
# look better, or a loss of quality smaller, than it is. You have met two:
#
# 1. **a missing projection**: what is compared is not the same size of perturbation (your `ascend` without
#    `keep`);
# 2. **a clipped eigenvalue**: a distance that is negative between equal maps (`published_distance`);
# 3. **PSNR of bytes**. Subtract two arrays of `uint8`, and square: bytes wrap at 256, so that a difference
#    of −1 is 255, and $16^2$ is 0. However unlike two pictures are, what is left of the squares looks like
#    any number from 0 to 255.
#
# ### Exercise: PSNR that wraps
#
# Write the mistake. `to_uint8` makes bytes of pictures; `torch.from_numpy` keeps them bytes.

# %% exercise="atkpdm.autopsy.wrapped_psnr" lines=4
# %%
wrapped_psnr = check(wrapped_psnr)

# %% [markdown]
# Noise from nothing to far too much: the true PSNR, and the wrapped one. Where does it stop falling? A
# table in which every method has "28 dB" is a table of this.

# %%
picture = scenes[:1]
sizes = torch.logspace(-2.2, 0.6, 25)
noise = torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
spoiled = [(picture + s * noise).clamp(-1, 1) for s in sizes]
figure, axis = plt.subplots()
axis.semilogx(sizes, [float(psnr(picture, y)) for y in spoiled], label="true PSNR")
axis.semilogx(sizes, [float(wrapped_psnr(picture, y)) for y in spoiled], label="of bytes that wrap")
axis.set(xlabel="size of the noise", ylabel="dB")
axis.legend();
# %% [markdown]
# 4. **Normalising twice.** A pipeline gives pictures in $[-1, 1]$; the next function expects $[0, 1]$ and
#    applies $x/2 + 1/2$ to what already is. Everything turns pale, and the distance of any two pictures
#    halves: 6 dB for nothing. If the edits in a figure look *washed out*, suspect this before you suspect
#    the attack.

# %%
pale = washed_out(harmed)
print(f"PSNR of two edits: {psnr(clean, harmed).mean():.0f} dB; normalised twice, 6 more:",
      bool((psnr(washed_out(clean), pale) - psnr(clean, harmed) - 6.02).abs().max() < 0.1))
rows([harmed[:4], pale[:4]], ["edits", "the same, normalised twice"])

# %% [markdown]
# ## What it is good for, and what not
#
# You can protect a picture of your own from the command line:
#
# ```
# python -m course protect my_picture.png --out protected.png --show before_after.png
# ```
#
# It takes any size and mode, keeps size, transparency and metadata, and prints what the file that it wrote
# costs: PSNR, SSIM, perceptual distance. It does not print how well it protects, because that depends on
# somebody who is not in the room.
#
# - **Use it on your own pictures.** A perturbation that disturbs a model is as easily put on someone else's.
# - **The editor moves second**, has the file for ever, and may use models that do not exist yet.
# - **What others found.** Hönig et al. (2024, arXiv 2406.12027) showed that simple means such as upscaling,
#   within anyone's reach, undo the protections that artists use against mimicry, and that they give a false
#   sense of security. Xue & Chen (2024, arXiv 2404.13320) found pixel-domain models robust against existing
#   attacks, and used them to *purify* what protects from latent ones. Zhao et al. (2024, arXiv 2312.00084)
#   questioned protective perturbations in practical settings and gave a purifier. LightShed (2025) is a
#   network that detects perturbations and takes them away. AtkPDM (arXiv 2408.11810) answers the second of
#   these, for white-box attacks at $t = 500$, and reports robustness against common defences; those are the
#   paper's claims for models of 256 pixels. Ours, above, are for tiny ones, where the damage we measure
#   leaves an edit that still can be read.
# - **So: no promise.** What you built makes one network's edit worse, by an amount that you can measure, at a
#   cost that you can measure. Say both numbers, with their intervals, whenever you show it.
#
# ## Recap
# 1. A protector climbs a loss inside budgets: here the distance of the victim's middle features, of pictures
#    noised with the same noise, in the mean over $t$ and noises.
# 2. The Wasserstein term is a nuclear norm, $\|XY^\top\|_*/n$: exact for singular covariances, and blind to
#    where a feature stands. Its slope at the picture itself is zero: start elsewhere.
# 3. Budgets are enforced: an exact projection for PSNR and range, steps with a *fresh* gradient for
#    perceptual distance. AtkPDM+ climbs in a VAE's latents instead.
# 4. Compare at one true PSNR, with shared seeds, intervals, two floors, other pictures' perturbations, an
#    untrained surrogate, and carry-over.
# 5. Then let the editor move: purifiers (against purified *clean* pictures), other models, other $t$.
#
# **What can go wrong.** Hooks that stay. Different noises for the two pictures. Starting where there is no
# slope. A projection that is missing, or that forgets the range. PSNR with the wrong peak, of bytes, or over a
# whole batch. A stale gradient. Claiming as protection what a blur, or another seed, does too.
#
# **Read on.** Shih et al., *Pixel Is Not A Barrier* (AtkPDM, arXiv 2408.11810). Liang et al., *AdvDM* (arXiv
# 2302.04578). Xue et al., *Diff-Protect* (arXiv 2311.12832). Salman et al., *PhotoGuard* (arXiv 2302.06588).
# Nie et al., *DiffPure* (arXiv 2205.07460). Athalye, Carlini & Wagner, *Obfuscated Gradients Give a False
# Sense of Security* (arXiv 1802.00420), on attacks that look through defences. And the four papers of the
# section above, which every protector should know better than this lesson.
