# %% [markdown]
# # 06 · Classifier guidance: asking for a seven
#
# **After this lesson you can**
# - say what the score $\nabla\log p(x_t)$ is, and why a network that predicts noise has learned it;
# - derive Bayes' rule for scores step by step, and turn it into one line that changes $\hat\varepsilon$;
# - train a classifier that reads noisy digits, steer lesson 04's sampler with it, and measure what the
#   steering buys and what it costs.
#
# **Time:** about 90 minutes. **Needs:** lessons 03 and 04, Bayes' rule, and gradients in PyTorch.

# %%
import math
from collections.abc import Callable
from typing import NamedTuple

import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course import metrics, plots
from course.checks import check, hint
from course.classifier_guidance import Classifier
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, at, cosine_schedule, q_sample
from course.sampling import EpsModel, as_eps_model, normal_like, predict_x0, sample, timesteps
from course.training import (
    ResidualBlock, TrainState, UNet, batch_indices, timestep_embedding, train
)
from course.weights import card, load_weights

plots.set_style()

# %% [markdown]
# ## Can we control a diffusion model?
#
# The model of lesson 04 turns noise from $\mathcal N(0, I)$ into digits, and we have no say in which. It
# draws from $p(x)$, the distribution of *all* digits. What we would like is a draw from $p(x \mid y)$, the
# distribution of the digits with a label $y$ of our choice: a seven, or, for larger models, "a cat".
#
# This lesson gets it without touching the model. We let the sampler run as it is and, at every step, push
# $x_t$ a little towards the label. Which way to push, and how hard, is not a matter of taste: Bayes' rule
# tells both. To hear it we need to look at the model's output in another way, as a *score*.
#
# ## The score
#
# The **score** of a distribution is the gradient of the logarithm of its density, *with respect to the
# point* $x$ and not to any parameter:
#
# $$\nabla_x \log p(x).$$
#
# It is a vector at each point, with as many entries as $x$ has pixels, and it says in which direction the
# density rises fastest: where to go to find data. One property makes it convenient. A density that is known
# only up to a factor, $p(x) = \tilde p(x)/Z$, has the score
# $\nabla\log\tilde p(x) - \nabla\log Z = \nabla\log\tilde p(x)$, since $Z$ does not depend on $x$. All
# normalising constants drop out. This will happen again soon, at the decisive moment.
#
# ### One number, by hand
#
# For a normal variable with mean $m$ and variance $\sigma^2$,
#
# $$\log p(x) = -\frac{(x-m)^2}{2\sigma^2} + \text{const}, \qquad
# \frac{\mathrm d}{\mathrm dx}\log p(x) = -\frac{x-m}{\sigma^2} .$$
#
# So it points back to the mean, the more strongly the farther away $x$ is and the narrower the hump. With
# $m = 0.8$ and $\sigma = 0.6$, at $x = 2$, it is $-(2-0.8)/0.36 = -3.33$. The slope of $\log p$ says the
# same:

# %%
normal = torch.distributions.Normal(0.8, 0.6)
x = torch.tensor(2.0, requires_grad=True)
(slope,) = torch.autograd.grad(normal.log_prob(x), x)
print(f"by hand {-(2 - 0.8) / 0.36:.2f}, by autograd {slope:.2f}")

# %% [markdown]
# ### The score of a noisy image whose origin is known
#
# Now the forward process. Given $x_0$, the noisy image is normal,
# $x_t \sim \mathcal N(\sqrt{\bar\alpha_t}\,x_0, (1-\bar\alpha_t) I)$. All pixels are independent, so the
# rule above holds for each, with $m = \sqrt{\bar\alpha_t}\,x_0$ and $\sigma^2 = 1-\bar\alpha_t$:
#
# $$\nabla_{x_t}\log p(x_t \mid x_0) = -\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}
# = -\frac{\sqrt{1-\bar\alpha_t}\;\varepsilon}{1-\bar\alpha_t}
# = -\frac{\varepsilon}{\sqrt{1-\bar\alpha_t}} .$$
#
# In the second step we put in $x_t - \sqrt{\bar\alpha_t}\,x_0 = \sqrt{1-\bar\alpha_t}\,\varepsilon$, and
# then one of the two roots cancelled. So the score is the noise, turned around and divided by its standard
# deviation. That is plausible: noise has led away from the data, and the way back is the opposite one. The
# example by hand was such a pixel, with $x_0 = 1$, $\sqrt{\bar\alpha} = 0.8$ and $\varepsilon = 2$: its
# score is $-2/0.6 = -3.33$.
#
# ### The score of a noisy image whose origin is not known
#
# During sampling there is no $x_0$. What we need there is the score of $p(x_t)$ itself, the density of all
# noisy images together, which is a mixture over all the $x_0$ there might be:
# $p(x_t) = \int p(x_t \mid x_0)\,p(x_0)\,\mathrm dx_0$. Differentiate, and use $\nabla p = p\,\nabla\log p$
# twice:
#
# $$\begin{aligned}
# \nabla\log p(x_t) &= \frac{\nabla p(x_t)}{p(x_t)}
# = \int \frac{p(x_0)\,\nabla p(x_t \mid x_0)}{p(x_t)}\,\mathrm dx_0
# = \int \underbrace{\frac{p(x_0)\,p(x_t \mid x_0)}{p(x_t)}}_{p(x_0 \mid x_t)}\,\nabla\log p(x_t \mid x_0)\,\mathrm dx_0 \\
# &= \mathbb E\big[\nabla\log p(x_t \mid x_0)\;\big|\;x_t\big]
# = -\frac{\mathbb E[\varepsilon \mid x_t]}{\sqrt{1-\bar\alpha_t}} .
# \end{aligned}$$
#
# Now recall lesson 03. A network trained with squared error learns a mean, and the mean it learns here is
# $\mathbb E[\varepsilon \mid x_t]$. So the network's noise *is* the score, up to a known factor:
#
# $$\boxed{\;\nabla_{x_t}\log p(x_t) \;\approx\; -\frac{\varepsilon_\theta(x_t, t)}{\sqrt{1-\bar\alpha_t}}
# \;\propto\; -\varepsilon_\theta(x_t, t) .\;}$$
#
# Nobody asked it to. Whoever learns to remove noise learns where the data are.
#
# ### Exercise: from noise to score

# %% exercise="classifier_guidance.score_from_eps" lines=1
# %%
score_from_eps = check(score_from_eps)

# %% [markdown]
# Stuck? `hint(score_from_eps)` says a little more with each call. The way back is the same equation solved
# for the noise:

# %% inline="classifier_guidance.eps_from_score"
# %% [markdown]
# <details><summary><b>Think:</b> lesson 04 had a formula for the predicted image,
# $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\varepsilon)/\sqrt{\bar\alpha_t}$. What is it in terms of the score?
# </summary>
#
# Put $\hat\varepsilon = -\sqrt{1-\bar\alpha_t}\,\nabla\log p(x_t)$ in:
#
# $$\hat x_0 = \frac{x_t + (1-\bar\alpha_t)\,\nabla\log p(x_t)}{\sqrt{\bar\alpha_t}} = \mathbb E[x_0 \mid x_t] .$$
#
# This is **Tweedie's formula**, known to statisticians since the 1950s: to denoise, go uphill on $\log p$,
# by the noise's variance. It says exactly what a blurry $\hat x_0$ is, the mean of everything that $x_t$
# could have been, and it will tell us below how far guidance moves that mean.
# </details>
#
# ## A world where everything is known
#
# Before any digits, we want a place where each formula of this lesson can be compared with the truth.
# Lesson 04 had two humps on a line. Now we take three in the plane, of different shapes, and the hump a
# point comes from is its **label** $y$. Such a thing is called a mixture of Gaussians.

# %% inline="classifier_guidance.Mixture"
# %%
mixture = Mixture(
    weights=torch.tensor([0.5, 0.3, 0.2]),
    means=torch.tensor([[-0.5, -0.3], [0.45, -0.2], [0.1, 0.5]]),
    covs=torch.tensor([[[0.02, 0.012], [0.012, 0.015]],
                       [[0.01, -0.006], [-0.006, 0.02]],
                       [[0.03, 0.0], [0.0, 0.006]]]),
)
alpha_bars = alpha_bars_from_betas(cosine_schedule())
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# The forward process keeps it simple. Scaling a normal variable by $\sqrt{\bar\alpha}$ scales its mean by
# that and its covariance by $\bar\alpha$, and independent noise adds $1-\bar\alpha$ to each variance. So
# each component stays Gaussian:
#
# $$p(x_t \mid y) = \mathcal N\big(\sqrt{\bar\alpha_t}\,m_y,\; \underbrace{\bar\alpha_t\,\Sigma_y + (1-\bar\alpha_t) I}_{C_y}\big),
# \qquad \nabla\log p(x_t \mid y) = -C_y^{-1}\,(x_t - \sqrt{\bar\alpha_t}\,m_y) .$$
#
# The second formula is $-(x-m)/\sigma^2$ in several dimensions. It is the *conditional* score, the thing
# that guidance will have to find, and here it can be written down.

# %% inline="classifier_guidance.noised"
# %% inline="classifier_guidance.component_log_probs"
# %% inline="classifier_guidance.component_scores"
# %% [markdown]
# ### Exercise: which component is it from?
#
# The density of a point is $p(x_t) = \sum_y p(y)\,p(x_t \mid y)$, and Bayes' rule gives the label's
# probability once the point has been seen:
#
# $$p(y \mid x_t) = \frac{p(y)\;p(x_t \mid y)}{p(x_t)} .$$
#
# This is the best classifier there can be. We want its logarithm, and we want it without ever leaving
# logarithms: far from a component its density is something like $e^{-500}$, which a computer rounds to 0.

# %% exercise="classifier_guidance.mixture_log_posterior" lines=2
# %%
mixture_log_posterior = check(mixture_log_posterior)

# %% [markdown]
# ### Exercise: the score of the mixture
#
# Differentiate the sum and use $\nabla p = p\,\nabla \log p$, as we did above with the integral:
#
# $$\nabla\log p(x_t) = \frac{\sum_y p(y)\,\nabla p(x_t\mid y)}{p(x_t)}
# = \sum_y \underbrace{\frac{p(y)\,p(x_t \mid y)}{p(x_t)}}_{p(y \mid x_t)}\,\nabla\log p(x_t \mid y) .$$
#
# Each component pulls towards itself, as strongly as it believes the point to be its own.

# %% exercise="classifier_guidance.mixture_score" lines=3
# %%
mixture_score = check(mixture_score)

# %% [markdown]
# Let us look at this field of arrows at three noise levels, over the density (darker is denser). Look for
# two things. With little noise, on the left, the plane is divided among three basins. With much noise, on
# the right, the three have melted into one hump, and all arrows lead to the same place: while there is that
# much noise, nothing is decided yet.
#
# Arrows are drawn at the length $\sqrt{1-\bar\alpha_t}\,\lVert\nabla\log p\rVert$, so that they fit at each
# level. By the boxed formula this is just $-\hat\varepsilon$.

# %%
line = torch.linspace(-1.3, 1.3, 13)
places = torch.cartesian_prod(line, line)
fine = torch.cartesian_prod(torch.linspace(-1.4, 1.4, 90), torch.linspace(-1.4, 1.4, 90))


def draw_density(axis: plt.Axes, t: int, label: int | None = None) -> None:
    """Shade p(x_t), or p(x_t | y) where a label is given."""
    log_probs = component_log_probs(mixture, fine, torch.full((len(fine),), t), alpha_bars)
    joint = (mixture.weights.log() + log_probs).logsumexp(dim=1)
    values = joint if label is None else log_probs[:, label]
    x, y = fine.reshape(90, 90, 2).unbind(dim=-1)
    axis.contourf(x, y, values.exp().sqrt().reshape(90, 90), levels=9, cmap="Greys", alpha=0.6)
    axis.set(aspect="equal", xticks=[-1, 0, 1], yticks=[-1, 0, 1])


def draw_arrows(axis: plt.Axes, score: Tensor, t: int, colour: str) -> None:
    """A score at all `places`, as long as the noise it stands for."""
    along = -eps_from_score(score, torch.full((len(places),), t), alpha_bars)
    axis.quiver(*places.T, *along.T, color=colour, angles="xy", scale_units="xy", scale=8, width=0.006)

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.4, 3), layout="constrained")
for axis, t in zip(axes, [40, 130, 500], strict=True):
    score = mixture_score(mixture, places, torch.full((len(places),), t), alpha_bars)
    draw_density(axis, t)
    draw_arrows(axis, score, t, plots.COLOURS[0])
    axis.set_title(f"t = {t}")
# %% [markdown]
# ## Bayes' rule for scores
#
# Now for the label. Bayes' rule says how the density of the images with label $y$ comes from the density of
# all images:
#
# $$p(x_t \mid y) = \frac{p(x_t)\;p(y \mid x_t)}{p(y)} .$$
#
# Read it with a picture for $x_t$ and "cat" for $y$. The left side asks how probable this picture is among
# all pictures of cats. On the right stand an old friend and a new one. $p(x_t)$, how probable the picture
# is at all, is what the diffusion model knows. $p(y \mid x_t)$ asks whether the picture shows a cat: that
# is a **classifier**. Take logarithms, and the product becomes a sum:
#
# $$\log p(x_t \mid y) = \log p(x_t) + \log p(y \mid x_t) - \log p(y) .$$
#
# Take the gradient with respect to $x_t$, term by term:
#
# $$\nabla_{x_t}\log p(x_t \mid y) = \nabla_{x_t}\log p(x_t) + \nabla_{x_t}\log p(y \mid x_t)
# - \underbrace{\nabla_{x_t}\log p(y)}_{0} .$$
#
# Why is the last term 0? $p(y)$ is how common the label is, 0.1 for each digit say. It is a number that
# does not contain $x_t$: move the image, and it stays what it is. A constant drops out of a score, as
# promised. What remains is **classifier guidance** in one line (Dhariwal and Nichol, 2021):
#
# $$\boxed{\;\underbrace{\nabla_{x_t}\log p(x_t \mid y)}_{\text{conditional score}} \;=\;
# \underbrace{\nabla_{x_t}\log p(x_t)}_{\substack{\text{unconditional score} \\ \propto\; -\varepsilon_\theta(x_t, t)}}
# \;+\; \underbrace{\nabla_{x_t}\log p(y \mid x_t)}_{\substack{\text{classifier} \\ \text{(needs training of its own)}}} .\;}$$
#
# The diffusion model says where images are. The classifier says in which direction an image becomes more of
# a seven. Their sum leads to images of sevens.
#
# ### The classifier's gradient, by hand
#
# Take an image $x$ of two pixels, $a$ and $b$, and a classifier whose two logits are simply the pixels. Its
# first label has the probability $p(0 \mid x) = e^a/(e^a + e^b)$. The logarithm is $a - \log(e^a + e^b)$,
# and its derivatives by $a$ and by $b$ are
#
# $$\nabla\log p(0 \mid x) = \big(1 - p(0 \mid x),\; -p(1 \mid x)\big) .$$
#
# At $x = (0, 0)$ both labels have probability 0.5, and the gradient is $(0.5, -0.5)$: brighten the first
# pixel, darken the second. At $x = (3, 0)$ the classifier is 95 % sure already, and little is left to be
# gained: $(0.05, -0.05)$. At $x = (-3, 0)$ it is 95 % sure of the *other* label, and pushes with nearly
# full force: $(0.95, -0.95)$. The gradient of the *probability*, $p\,\nabla \log p$, would be as faint
# there as it is when all is well. The logarithm is what keeps an image that looks quite wrong from being
# given up.
#
# ### Exercise: the gradient of log p(y | x_t)
#
# `torch.autograd.grad` does the work, if asked the right question. Three things to get right:
#
# - It differentiates *one number*. Image $i$'s log-probability depends on image $i$ alone, so in the **sum**
#   over the batch nothing mixes: its gradient has each image's own gradient in its place. (The mean would
#   divide every one of them by the size of the batch.)
# - `sample` runs with gradients switched off. Switch them on for these few lines:
#   `with torch.enable_grad():`.
# - Differentiate with respect to a tensor of your own, `xt.detach().requires_grad_()`, so that nothing of
#   this stays behind in the caller's images.

# %% exercise="classifier_guidance.log_prob_gradient" lines=5
# %%
log_prob_gradient = check(log_prob_gradient)

# %%
for pixels in ([0.0, 0.0], [3.0, 0.0], [-3.0, 0.0]):
    gradient = log_prob_gradient(lambda x, t: x, torch.tensor([pixels]), torch.tensor([0]), torch.tensor([0]))
    print(pixels, "->", [round(g, 2) for g in gradient[0].tolist()])

# %% [markdown]
# ### Is it true?
#
# In the mixture we have all three scores of the boxed equation *independently of each other*: the
# conditional one from $C_y^{-1}$, the unconditional one from the weighted sum, and the classifier's from
# autograd. Take points at all noise levels, and compare the sum of two with the third.

# %%
def bayes(xt: Tensor, t: Tensor) -> Tensor:
    """The best classifier of the mixture; log-probabilities are logits, too."""
    return mixture_log_posterior(mixture, xt, t, alpha_bars)


t = torch.randint(1000, (1000,), generator=generator)
y = torch.randint(3, (1000,), generator=generator)
xt = torch.randn(1000, 2, generator=generator)

summed = mixture_score(mixture, xt, t, alpha_bars) + log_prob_gradient(bayes, xt, t, y)
exact = component_scores(mixture, xt, t, alpha_bars)[torch.arange(1000), y]
print("the same to 0.1 %:", torch.allclose(summed, exact, rtol=1e-3, atol=1e-3))

# %% [markdown]
# Here is the equation as a picture, for the upper component ($y = 2$) at $t = 130$. On the left the
# unconditional arrows lead to all three humps. In the middle, the classifier's arrows do not care where
# data are at all; they lead away from the two wrong humps, and near the right one they vanish, because the
# classifier is content there. Their sum, on the right, leads to the one hump and to nowhere else.

# %%
t, y = torch.full((len(places),), 130), torch.full((len(places),), 2)
unconditional = mixture_score(mixture, places, t, alpha_bars)
classifiers = log_prob_gradient(bayes, places, t, y)

scores = [unconditional, classifiers, unconditional + classifiers]
titles = [r"$\nabla\log p(x_t)$", r"+  $\nabla\log p(y\,|\,x_t)$", r"=  $\nabla\log p(x_t\,|\,y)$"]

figure, axes = plt.subplots(1, 3, figsize=(8.4, 3.1), layout="constrained")
for k, axis in enumerate(axes):
    draw_density(axis, 130, label=2 if k == 2 else None)
    draw_arrows(axis, scores[k], 130, plots.COLOURS[k])
    axis.set_title(titles[k])
# %% [markdown]
# ## Guided noise
#
# The sampler of lesson 04 does not know scores. It asks an `eps_model` for noise. So we translate the
# equation back: multiply it by $-\sqrt{1-\bar\alpha_t}$, and each score becomes a noise,
#
# $$\boxed{\;\tilde\varepsilon = \varepsilon_\theta(x_t, t) - \gamma\,\sqrt{1-\bar\alpha_t}\;\nabla_{x_t}\log p(y \mid x_t) .\;}$$
#
# We have slipped in a number $\gamma$, the **guidance scale** (the paper calls it $s$). At $\gamma = 1$
# this is Bayes' rule. At $\gamma = 0$ the label is ignored. What larger values do, we shall see.
#
# Mind the sign. The gradient is *added* to the score, so it is *taken away* from the noise: it is noise, in
# the classifier's opinion, that stands between this image and a better seven. And what does it do to the
# predicted image? By Tweedie's formula, $\hat x_0$ moves by
#
# $$\gamma\,\frac{1-\bar\alpha_t}{\sqrt{\bar\alpha_t}}\;\nabla_{x_t}\log p(y \mid x_t),$$
#
# a factor that is large where there is much noise. Guidance has its say early on, and hardly any at the
# end.
#
# ### Exercise: guided noise

# %% exercise="classifier_guidance.guided_eps" lines=1
# %%
guided_eps = check(guided_eps)

# %% [markdown]
# ### Exercise: an eps_model with a label
#
# The last piece of machinery. Lesson 04's sampler calls `eps_model(xt, t)` and knows nothing of labels. So
# write a function that *returns* such a function: it remembers the classifier, the labels and the scale.
# Guidance is then another `eps_model`, and no other sampler is needed, here or in any later lesson.

# %% exercise="classifier_guidance.classifier_guided_eps_model" lines=5
# %%
classifier_guided_eps_model = check(classifier_guided_eps_model)

# %% [markdown]
# ### Guided walks in the plane
#
# Five hundred points of noise walk through the mixture's field four times: without guidance, and towards
# each of the three labels. In the first picture expect points on all three humps, in proportion to their
# weights (half of them on the left one). In the others, all points belong on one hump, and should fill it
# as the data do: the ellipse is where 95 % of that component lies.

# %%
def mixture_eps(xt: Tensor, t: Tensor) -> Tensor:
    return eps_from_score(mixture_score(mixture, xt, t, alpha_bars), t, alpha_bars)


def walk_to(label: int, scale: float, start: Tensor) -> Tensor:
    """Points of the plane, guided to a label by the exact classifier."""
    y = torch.full((len(start),), label)
    guided = classifier_guided_eps_model(mixture_eps, bayes, y, alpha_bars, scale)
    *_, x0 = sample(guided, start, alpha_bars, steps=100, clip=False)
    return x0


def draw_ellipse(axis: plt.Axes, label: int) -> None:
    """Where 95 % of a component lies: 2.45 standard deviations around its mean."""
    angle = torch.linspace(0, 2 * torch.pi, 100)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    x = mixture.means[label] + 2.45 * circle @ torch.linalg.cholesky(mixture.covs[label]).T
    axis.plot(*x.T, color=plots.COLOURS[1], linewidth=1.2)
    axis.set(aspect="equal", xlim=(-1.2, 1.2), ylim=(-1, 1))

# %%
start = torch.randn(500, 2, generator=generator)
ends = [walk_to(0, 0.0, start), *(walk_to(label, 1.0, start) for label in range(3))]

figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.3), sharey=True, layout="constrained")
for k, (axis, x0) in enumerate(zip(axes, ends, strict=True)):
    axis.scatter(*x0.T, s=3, alpha=0.5)
    for label in range(3):
        draw_ellipse(axis, label)
    axis.set_title("unguided" if k == 0 else f"y = {k - 1}")
# %% [markdown]
# And in numbers: the mean and the standard deviations (along x and y) of the guided points, beside the true
# ones. Expect the points to be a hair too narrow, for the reason that lesson 04 gave: the last step of a
# walk returns a mean, and means vary less.

# %%
for label, x0 in enumerate(ends[1:]):
    true_std = mixture.covs[label].diagonal().sqrt()
    for what, mean, std in [("samples", x0.mean(dim=0), x0.std(dim=0)),
                            ("truth  ", mixture.means[label], true_std)]:
        print(f"y = {label}, {what}: mean ({mean[0]:5.2f}, {mean[1]:5.2f}), std ({std[0]:.2f}, {std[1]:.2f})")

# %% [markdown]
# ### Beyond $\gamma = 1$
#
# Why would anybody take another $\gamma$ than the one Bayes' rule gives? Because real classifiers and real
# networks are not exact, and because we often want a *clear* seven rather than an honest draw from all the
# sevens there are. The usual way to read the scale is this. With it, the guided score is
#
# $$\nabla\log p(x) + \gamma\,\nabla\log p(y \mid x) = \nabla\log\big[\,p(x)\;p(y \mid x)^\gamma\,\big],$$
#
# so it belongs to a density in which the classifier's opinion is raised to the power $\gamma$. A power
# above 1 *sharpens*: an opinion of 0.9 against 0.6 is a ratio of 1.5, and raised to the third power, one of 3.4.
# The figure shows it on a line between two humps. Look where the curve still lets points pass.

# %%
x = torch.linspace(-1, 1, 200)
opinion = torch.sigmoid(8 * x)  # p(y | x) between two equal humps, at −1 and 1
figure, axis = plt.subplots(figsize=(5.4, 2.6))
for gamma in (1, 3, 10):
    axis.plot(x, opinion**gamma, label=rf"$\gamma$ = {gamma}")
axis.set(xlabel="x", ylabel=r"$p(y\,|\,x)^\gamma$")
axis.legend();
# %% [markdown]
# That is the usual reading, and it is a good one *at a single noise level*. But is it what the whole walk
# draws from? In our little world we can look. If guided samples came from $p(x_0)\,p(y \mid x_0)^\gamma$,
# then in the mixture almost nothing would change with $\gamma$: on its own hump the classifier is sure
# already, $p(y \mid x_0) \approx 1$, and any power of 1 is 1. So the points should keep filling their
# ellipse. Watch what they do instead.

# %%
figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.3), sharey=True, layout="constrained")
for axis, gamma in zip(axes, [1.0, 2.0, 4.0, 8.0], strict=True):
    for label in range(3):
        axis.scatter(*walk_to(label, gamma, start[:200]).T, s=3, alpha=0.5)
        draw_ellipse(axis, label)
    axis.set_title(rf"$\gamma$ = {gamma:g}")
# %% [markdown]
# The three clouds shrink, and move away from each other, out to the far rim of their humps and past it.
# Guidance is doing more than sharpening. The reason is worth knowing, because lesson 07's guidance does the
# same.
#
# The label depends on the noisy image only through the clean one, so
# $p(y \mid x_t) = \mathbb E\big[\,p(y \mid x_0) \mid x_t\,\big]$. If we add noise to the sharpened density,
# each $x_0$ counting $p(y \mid x_0)^\gamma$ times, we get
#
# $$p(x_t)\;\mathbb E\big[\,p(y \mid x_0)^\gamma \;\big|\; x_t\,\big],
# \qquad\text{whereas guidance follows}\qquad
# p(x_t)\;\mathbb E\big[\,p(y \mid x_0) \;\big|\; x_t\,\big]^\gamma .$$
#
# The mean of a power is not the power of a mean. The two agree for $\gamma = 0$, for $\gamma = 1$, and
# where there is no noise. Elsewhere, a point that could still become either of two humps is worth 0.5 to
# the first and $0.5^\gamma$ to the second. So guidance shuns every $x_t$ that could still become something
# else, and what survives are the images that could be mistaken for nothing else at any noise level: typical
# of the label, all alike, even a little exaggerated. **That is the whole trade: a larger scale buys
# certainty and pays with diversity.**
#
# <details><summary><b>Think:</b> the paper also gives a version for DDPM's ancestral steps, which shifts the
# mean: $\mu + \gamma\,\Sigma\,\nabla\log p(y \mid x_t)$. Is that another method?</summary>
#
# No. Lesson 04 wrote the mean as
# $\frac{1}{\sqrt{\alpha_t}}\big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\hat\varepsilon\big)$. Put the
# guided noise in, and the roots of $1-\bar\alpha_t$ cancel: the mean moves by
# $\gamma\,\frac{\beta_t}{\sqrt{\alpha_t}}\,\nabla\log p(y\mid x_t)$. With the variance $\Sigma = \beta_t I$
# this is the paper's shift, up to $1/\sqrt{\alpha_t}$, which for small steps is almost 1. Changing
# $\hat\varepsilon$ has an advantage: it works for every sampler, DDIM included.
# </details>
#
# ## A classifier for noisy digits
#
# In the mixture the classifier fell from the sky. For digits we need a real one, and the remark under its
# brace, "needs training of its own", hides a catch. The course has a good classifier of digits already, the
# judge of lesson 04, right on more than 99 % of test digits. Why not take its gradient?
#
# Because of the $t$ in $p(y \mid x_t)$. It is asked about *noisy* images, at every noise level, and has
# never seen one. Here is what it makes of some. Above each image stands what the judge takes it for, and
# how sure it is.

# %%
images, labels = mnist("train")
held_out, held_out_labels = mnist("test")
judge = metrics.load_judge()

levels = torch.tensor([0, 100, 200, 300, 400, 500, 700, 900])
digit = held_out[:1].expand(len(levels), -1, -1, -1)
xt = q_sample(digit, levels, torch.randn(digit.shape, generator=generator), alpha_bars)
with torch.no_grad():
    sure, guess = judge(xt).softmax(dim=1).max(dim=1)
titles = [f"t = {t}\n{g} ({p:.0%})" for t, g, p in zip(levels, guess, sure, strict=True)]
plots.show(xt, titles, columns=8, size=1.0, title="an ordinary classifier on a noisy seven");
# %% [markdown]
# It goes wrong while you can still read the digit with ease. Worse, it is *sure* when it is wrong, because
# nothing in its training ever taught it to doubt. An honest answer for the last image would be "10 % for
# each". And a gradient is even more delicate than an answer.
#
# The cure is simple: train a classifier on noisy images, of every $t$, and tell it $t$, so that it knows
# how much it may trust what it sees.
#
# ### Exercise: the network
#
# It is the way down of lesson 03's UNet, made smaller, with a linear layer at its end. The constructor is
# given, and these are the parts to put together:
#
# - time: `timestep_embedding(t, self.emb_dim)` through `self.time_mlp`; both blocks are told the result;
# - 28 × 28 pixels are folded to 14 × 14 with `F.pixel_unshuffle(xt, 2)`, then `stem` and `block1`;
# - `shrink` to 7 × 7, then `block2`;
# - `norm` and a SiLU, `flatten(1)`, and `classify`. Return logits.

# %% exercise="classifier_guidance.NoisyClassifier" stub="forward"
# %%
NoisyClassifier = check(NoisyClassifier)

# %% [markdown]
# ### Exercise: its loss
#
# The cross-entropy, as for any classifier, except that it gets to see $x_t$ and is told $t$.

# %% exercise="classifier_guidance.classifier_loss" lines=2
# %%
classifier_loss = check(classifier_loss)

# %% [markdown]
# Two hundred steps with lesson 03's training loop. Every digit of a batch gets a $t$ of its own, all
# equally likely. The first loss is about $\log 10 \approx 2.3$, the price of knowing nothing. It falls
# fast, but not to 0: in every batch there are digits with so much noise that nobody could read them.

# %%
def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """A batch: digits, a noise level and a noise for each, and their labels."""
    i = batch_indices(len(images), 32, step)
    t = torch.randint(1000, (32,), generator=generator)
    return images[i], t, torch.randn(images[i].shape, generator=generator), labels[i]


def loss_fn(model: nn.Module, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor) -> Tensor:
    return classifier_loss(model, x0, t, eps, y, alpha_bars)


torch.manual_seed(0)
state = TrainState.start(NoisyClassifier(channels=(16, 32)))
losses = [step.loss for step in train(state, draw, loss_fn, steps=200, lr=3e-3, ema_decay=0.95)]

# %%
smooth = F.avg_pool1d(torch.tensor([losses]), 10, 10)[0]
figure, axis = plt.subplots(figsize=(5.4, 2.6))
axis.plot(losses, alpha=0.3)
axis.plot(torch.arange(5, 200, 10), smooth, color=plots.COLOURS[0])
axis.axhline(math.log(10), color="grey", linestyle="--", label="log 10: a guess")
axis.set(xlabel="step", ylabel="cross-entropy", ylim=(0, 2.6))
axis.legend(loc="upper right", bbox_to_anchor=(1, 0.86));
# %% [markdown]
# The course ships a wider one, trained in a few minutes by `python -m course train mnist-noisy-classifier`.
# How well does it read, at each noise level? Beside it we test the small one that you have just trained,
# and the judge. Three things to look for: where the judge's curve falls, and how far that is from where the
# others fall; that all of them end at 10 %, since at $t = 999$ the image holds nothing to be read; and how
# little training was needed.

# %% inline="classifier_guidance.accuracy_at"
# %%
name = "mnist-noisy-classifier"
classifier = load_weights(NoisyClassifier(**card(name)["config"]), name)
classifier = classifier.to(memory_format=torch.channels_last)
readers = {"shipped, trained on every t": classifier, "yours, after 200 steps": state.ema,
           "the judge, trained on clean digits": lambda xt, t: judge(xt)}

levels = [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 999]
figure, axis = plt.subplots(figsize=(8.4, 3.2), layout="constrained")
for label, reader in readers.items():
    shares = [accuracy_at(reader, held_out[:500], held_out_labels[:500], t, alpha_bars, generator)
              for t in levels]
    axis.plot(levels, shares, "o-", label=label)
axis.axhline(0.1, color="grey", linestyle="--", linewidth=0.8)
axis.set(xlabel="t", ylabel="accuracy on 500 test digits", ylim=(0, 1.05))
axis.legend(loc="upper left", bbox_to_anchor=(1, 0.9));
# %% [markdown]
# <details><summary><b>Think:</b> could the judge be rescued by showing it the denoised image
# $\hat x_0(x_t)$ instead of $x_t$?</summary>
#
# Yes, and no classifier need be trained then. The gradient with respect to $x_t$ now has to flow back
# through the diffusion network as well, which costs about as much again as two more calls of it at every
# step. And it is not quite Bayes' rule: a mean of many digits is no digit, and
# $p(y \mid \mathbb E[x_0 \mid x_t])$ is not $\mathbb E[p(y \mid x_0) \mid x_t]$. Still it works well, for
# any differentiable wish: *diffusion posterior sampling* and *universal guidance* are built like that, and
# the scanning guidance of lesson 10 looks at $\hat x_0$ as well.
# </details>
#
# ## Guided digits
#
# Everything is in place: lesson 04's network, which has never heard of labels, lesson 04's sampler, and a
# classifier.

# %%
network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
eps_model = as_eps_model(network.to(memory_format=torch.channels_last), alpha_bars, "v")
noise = torch.randn(40, 1, 28, 28, generator=generator)


def guided_digits(y: Tensor, scale: float, reader: Classifier = classifier) -> Tensor:
    """A digit for each label, from the first noises, in 25 steps of DDIM."""
    guided = classifier_guided_eps_model(eps_model, reader, y, alpha_bars, scale)
    *_, x0 = sample(guided, noise[: len(y)], alpha_bars, steps=25)
    return x0

# %% [markdown]
# Ten noises, one a column, and we ask for 0, 1, … 9. In the first row, $\gamma = 0$, nobody listens, and
# the digits are what they happen to be. In the second, $\gamma = 1$: look how much of the first row is
# still there, and where a stroke was bent, cut or added to make it into what we wanted. In the third,
# $\gamma = 3$, most labels are clear.

# %%
wanted = torch.arange(10)
rows = [guided_digits(wanted, gamma) for gamma in (0.0, 1.0, 3.0)]
figure = plots.show(torch.cat(rows), columns=10, size=0.8)
for axis, y in zip(figure.axes, range(10), strict=False):
    axis.set_title(f"“{y}”", fontsize=9)
# %% [markdown]
# What does the push look like? We stop a walk halfway and ask for the gradient towards several labels. The
# first picture is $x_t$, the second the predicted $\hat x_0$, whose outline is repeated in all others. They
# show the classifier's gradient for a label: red where it wants more ink, blue where it wants less. Ask of
# each which part of the shape it erases, and what it draws in its place.

# %%
*trajectory, x0 = sample(eps_model, noise[2:3], alpha_bars, steps=25)
xt, now = trajectory[8], timesteps(1000, 25)[9:10]
t = torch.tensor(now)
with torch.no_grad():
    x0_hat = predict_x0(xt, t, eps_model(xt, t), alpha_bars).clamp(-1, 1)

asked = [0, 2, 3, 5, 7, 9]
figure, axes = plt.subplots(1, 8, figsize=(9, 1.5), layout="constrained")
for axis, image, title in zip(axes, [xt, x0_hat], [f"$x_t$, t = {now[0]}", r"$\hat x_0$"], strict=False):
    axis.imshow(image[0, 0], cmap="gray", vmin=-1, vmax=1)
    axis.set_title(title, fontsize=9)
for axis, label in zip(axes[2:], asked, strict=True):
    gradient = log_prob_gradient(classifier, xt, t, torch.tensor([label]))[0, 0]
    axis.imshow(gradient, cmap="RdBu_r", vmin=-gradient.abs().max(), vmax=gradient.abs().max())
    axis.contour(x0_hat[0, 0], levels=[0], colors="black", linewidths=0.7)
    axis.set_title(f"“{label}”", fontsize=9)
for axis in axes:
    axis.axis("off")
# %% [markdown]
# And a classifier that never saw noise? Here are the same noises and wishes at $\gamma = 3$ once more, and
# under them the digits with the judge in the classifier's place. The formula is the same and so is the
# sampler. Compare not only whether the label is right, but what became of the digits.

# %%
by_judge = guided_digits(wanted, 3.0, lambda xt, t: judge(xt))
plots.show(torch.cat([rows[2], by_judge]), columns=10, size=0.8,
           title="above: guided by the noisy classifier · below: by the judge");
# %% [markdown]
# ## What the scale buys, and what it costs
#
# Two measurements, over a range of scales. The first is the share of samples that show the label that was
# asked for. Who decides? *Not* the classifier that steered: the sampler has been working to please it, and
# would fool it before it fools anybody else. The judge decides, which had no part in this.
#
# The second is diversity. The mixture has taught us to expect the sevens to grow alike. So how unlike are
# they? We take the judge's 64 features of each image, and average the distance between two images of the
# same label.
#
# ### Exercise: diversity
#
# The mean of $\lVert f_i - f_j\rVert$ over all pairs $i \ne j$ with the same label. Two traps: an image's
# distance to itself is 0 and says nothing, so the diagonal must go; and where no label occurs twice there
# is nothing to average, which is an error, not a NaN.

# %% exercise="classifier_guidance.diversity" lines=5
# %%
diversity = check(diversity)

# %% [markdown]
# As labels we take those that the judge *sees*, not those asked for. Otherwise, at $\gamma = 0$, where
# nobody listens to the wishes, we would compare a four with a nine and call it diversity. As a yardstick,
# the same number for 500 real digits.

# %%
def share_and_diversity(x: Tensor, y: Tensor) -> tuple[float, float]:
    """The share whose label the judge confirms, and the diversity within the labels it sees."""
    features = metrics.judge_features(judge, x)
    with torch.no_grad():
        seen = judge.classify(features).argmax(dim=1)
    return (seen == y).float().mean().item(), diversity(features, seen)


y = torch.arange(40) % 10
gammas = [0.0, 0.5, 1.0, 2.0, 4.0, 10.0, 30.0]
sweep = {gamma: guided_digits(y, gamma) for gamma in gammas}
shares, spreads = zip(*(share_and_diversity(x0, y) for x0 in sweep.values()), strict=True)
_, real = share_and_diversity(held_out[:500], held_out_labels[:500])

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9), layout="constrained")
left.plot(range(len(gammas)), shares, "o-")
left.set(ylabel="share with the label asked for", ylim=(0, 1.05))
right.plot(range(len(gammas)), spreads, "o-", color=plots.COLOURS[1])
right.axhline(real, color="grey", linestyle="--", label="500 real digits")
right.set(ylabel="diversity within a label", ylim=(0, 1.15 * max(spreads)))
right.legend(loc="lower left")
for axis in (left, right):
    axis.set_xticks(range(len(gammas)), [f"{g:g}" for g in gammas])
    axis.set_xlabel(r"guidance scale $\gamma$")
# %% [markdown]
# Forty samples a scale are enough to see which way each curve goes, and too few for numbers to quote;
# those, at N = 1,000 with the Fréchet distance beside them, are made by
# `python -m tests.benchmarks classifier-guidance`. On the left, $\gamma = 1$ already helps a great deal,
# and does not make the label certain. It would, if both networks were exact; in the mixture it did. On the
# right, diversity falls as the label grows certain, and beyond some scale it lies below that of real
# digits. (To the far left it can even lie *above*: a sample that is hardly a digit is unlike every other.)
#
# ### Too much of it
#
# What does a scale look like that is far too large? Below, twenty noises, asked for ten twos and ten
# eights, at $\gamma = 1$ (above), 10 and 100 (below). Follow a column down. The digits get heavier and more
# alike, strokes grow thick and ragged, and at the bottom some parts are there for no reason that a writer
# would have.

# %%
rows = [guided_digits(torch.tensor([2] * 10 + [8] * 10), gamma) for gamma in (1.0, 10.0, 100.0)]
plots.grid(torch.cat(rows), columns=20).resize((903, 138))
# %% [markdown]
# Where do the senseless parts come from? Imagine $\gamma$ so large that only the classifier counts. We can
# try it: forget the diffusion model, begin with a grey image, and climb $\log p(y \mid x)$ alone, at
# $t = 0$, for a hundred small steps. Above each result is what the classifier takes it for, and how sure it
# is.

# %%
x, t = torch.zeros(10, 1, 28, 28), torch.zeros(10, dtype=torch.int64)
for _ in range(100):
    gradient = log_prob_gradient(classifier, x, t, wanted)
    x = (x + 0.5 * gradient / gradient.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)).clamp(-1, 1)
with torch.no_grad():
    sure, guess = classifier(x, t).softmax(dim=1).max(dim=1)
plots.show(x, [f"{g} ({p:.0%})" for g, p in zip(guess, sure, strict=True)], columns=10, size=0.85);
# %% [markdown]
# The classifier could not be surer. You may make out the ghost of a stroke here and there, but nobody ever
# wrote such a digit. A classifier has only learned to tell digits *from each other*. It knows nothing of
# what is no digit at all, and there are many more ways to please it than to draw an eight: these are **adversarial
# examples**. In the boxed equation it is the unconditional score that keeps us among images. The larger
# $\gamma$, the less it is heard.
#
# This is the weakness of classifier guidance. It needs a second network, trained on noise. It needs a
# backward pass through that network at every step. And it hands the steering to a gradient that can be
# fooled. The boxed equation itself hints at a way out. Solve it for the classifier,
#
# $$\nabla\log p(y \mid x_t) = \nabla\log p(x_t \mid y) - \nabla\log p(x_t),$$
#
# and on the right there are two scores, which a *diffusion* network could learn. That is lesson 07.
#
# <details><summary><b>Think:</b> put this difference into the guided score. What do you get at a scale
# $\gamma$?</summary>
#
# $$\nabla\log p(x_t) + \gamma\big[\nabla\log p(x_t\mid y) - \nabla\log p(x_t)\big]
# = \gamma\,\nabla\log p(x_t \mid y) + (1-\gamma)\,\nabla\log p(x_t) .$$
#
# It is a mixture of two scores, with $\gamma = 0$ for "no label" and $\gamma = 1$ for "as the label says".
# The $\gamma$ of lesson 07 is the very same number.
# </details>
#
# ## Recap
# 1. The score $\nabla\log p(x_t)$ points to where data are dense, and a network that predicts noise has
#    learned it: score $= -\hat\varepsilon/\sqrt{1-\bar\alpha_t}$.
# 2. Bayes' rule for scores: conditional = unconditional + $\nabla\log p(y \mid x_t)$; $p(y)$ drops out
#    because it does not contain $x_t$.
# 3. As noise: $\tilde\varepsilon = \hat\varepsilon - \gamma\sqrt{1-\bar\alpha_t}\,\nabla\log p(y\mid x_t)$.
#    It is another `eps_model`, and the sampler stays as it is.
# 4. The classifier must be trained on noisy images of every $t$ and told $t$; an ordinary one is wrong, and
#    sure of it.
# 5. $\gamma = 1$ is Bayes' rule. More makes the label certain and the samples alike, and far too much ends
#    in pictures that please the classifier alone.
#
# **What can go wrong.** The sign: added to the score, taken away from the noise. $\sqrt{\bar\alpha}$ or
# $1-\bar\alpha$ where $\sqrt{1-\bar\alpha}$ belongs. The mean over the batch, so that guidance weakens as
# the batch grows. The gradient of the probability, or of the logit, instead of the log-probability. A
# classifier that was never shown noise, or is not told $t$. No `enable_grad` inside a sampler that runs
# without gradients; or too much of it, so that the graph of every step is kept. A result judged by the
# classifier that did the steering.
#
# **Read on.** Dhariwal & Nichol, *Diffusion Models Beat GANs on Image Synthesis* (arXiv 2105.05233),
# section 4. Song et al., *Score-Based Generative Modeling through SDEs* (arXiv 2011.13456), for scores and
# their conditional versions. Vincent, *A Connection Between Score Matching and Denoising Autoencoders*
# (Neural Computation 23, 2011), where noise and score first met; Efron, *Tweedie's Formula and Selection
# Bias* (JASA 106, 2011). Chung et al., *Diffusion Posterior Sampling* (arXiv 2209.14687), and Bansal et
# al., *Universal Guidance for Diffusion Models* (arXiv 2302.07121), for guidance through $\hat x_0$. To
# watch: Yang Song's talk *Diffusion and Score-Based Generative Models* (youtube.com/watch?v=wMmqCMwuM2Q).
#
# **Next.** Lesson 07 does without the classifier: one network learns to draw both with the label and
# without.
