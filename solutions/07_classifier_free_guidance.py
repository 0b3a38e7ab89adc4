# %% [markdown]
# # 07 · Classifier-free guidance: control without a classifier
#
# **After this lesson you can**
# - derive classifier-free guidance from classifier guidance, and say what distribution it aims at and
#   what it really draws from;
# - train one network that knows both the labelled and the unlabelled noise, and sample from it with one
#   call a step;
# - translate between the scales γ, w and `guidance_scale`, and choose one by measuring.
#
# **Time:** about 75 minutes. **Needs:** lessons 03, 04 and 06 (the UNet and its loss, the sampler, the
# score).

# %%
import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course import metrics, plots
from course.checks import check, hint
from course.classifier_free_guidance import (
    GUIDANCE_SCALE, Convention, NetworkWithLabel
)
from course.classifier_guidance import (
    Mixture, component_scores, diversity, eps_from_score, mixture_log_posterior, mixture_score,
    score_from_eps,
)
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, cosine_schedule, q_sample
from course.sampling import EpsModel, Kind, predict_x0, sample, to_eps
from course.training import TrainState, UNet, batch_indices, train, v_loss, v_target
from course.weights import card, load_weights

plots.set_style()
alpha_bars = alpha_bars_from_betas(cosine_schedule())

# %% [markdown]
# ## Who needs the classifier?
#
# In lesson 06 a classifier steered the sampler. It works, and it has its price. The classifier is a second
# network, and it must be trained on noisy images, so none that you find ready-made will do. Each step
# sends a gradient back through it. And what the gradient finds is whatever convinces the *classifier*,
# which need not look like a digit to anybody else.
#
# Ho and Salimans (2021) saw that the classifier can be left out altogether. All that is needed is a network
# that can predict the noise in two ways: knowing the label, $\varepsilon(x_t, t, y)$, and not knowing it,
# $\varepsilon(x_t, t, \varnothing)$. This is **classifier-free guidance**, CFG for short. Most of the models that
# turn texts into images are steered by it, the text being their label.
#
# ### Bayes' rule, read the other way round
#
# Lesson 06 started from Bayes' rule, $p(x_t \mid y) = p(x_t)\,p(y \mid x_t)/p(y)$, took the logarithm, and
# then the gradient with respect to $x_t$. The last term, $\nabla \log p(y)$, is zero, because $p(y)$ does not
# contain $x_t$:
#
# $$\nabla \log p(x_t \mid y) = \nabla \log p(x_t) + \nabla \log p(y \mid x_t) .$$
#
# There, the first term on the right came from the DDPM and the second from the classifier, and their sum was
# what we wanted. Now suppose that somebody gives us the left side as well. Then the equation can be solved
# for the classifier's part:
#
# $$\boxed{\;\nabla \log p(y \mid x_t) = \nabla \log p(x_t \mid y) - \nabla \log p(x_t) .\;}$$
#
# Whoever knows how to denoise a 7, and how to denoise just anything, also knows what makes an image more of
# a 7. No classifier was trained, and none is asked; it is *implicit* in the two scores.
#
# A network gives noise rather than scores. Lesson 06 showed how the two are related:
# $\nabla\log p(x_t) = -\varepsilon(x_t, t, \varnothing)/\sqrt{1-\bar\alpha_t}$, and likewise with the label. So
#
# $$\nabla \log p(y \mid x_t) =
# -\frac{\varepsilon(x_t, t, y) - \varepsilon(x_t, t, \varnothing)}{\sqrt{1-\bar\alpha_t}} .$$
#
# One pixel, by hand: let $\sqrt{1-\bar\alpha_t} = 0.6$, and let the predicted noise be 0.5 with the label and
# 0.2 without. The gradient is $-(0.5 - 0.2)/0.6 = -0.5$. Given the label, there is *more* noise in this
# pixel than one would think; its clean value is lower; so a lower pixel makes the label more likely.
#
# ### Exercise: the implicit classifier's gradient
#
# `score_from_eps(eps, t, alpha_bars)` is lesson 06's.

# %% exercise="classifier_free_guidance.implicit_gradient" lines=2
# %%
implicit_gradient = check(implicit_gradient)

# %% [markdown]
# Stuck? `hint(implicit_gradient)` says a little more with each call.
#
# ### Reweighted
#
# Guidance turns up the volume of the label. As in lesson 06, the classifier's part is multiplied by a number
# γ, and we write $\tilde p$ for the distribution whose score comes out:
#
# $$\nabla \log \tilde p(x_t \mid y) := \nabla \log p(x_t) + \gamma\,\nabla \log p(y \mid x_t) .$$
#
# Now put the box in the place of the classifier, and sort:
#
# $$\begin{aligned}
# \nabla \log \tilde p(x_t \mid y)
# &= \nabla \log p(x_t) + \gamma\,\big(\nabla \log p(x_t \mid y) - \nabla \log p(x_t)\big) \\
# &= \gamma\,\underbrace{\nabla \log p(x_t \mid y)}_{\text{conditional score}}
# + (1-\gamma)\,\underbrace{\nabla \log p(x_t)}_{\text{unconditional score}} .
# \end{aligned}$$
#
# Each score is a noise times the same number $-1/\sqrt{1-\bar\alpha_t}$. Divide by it, and the whole of
# classifier-free guidance stands in one line:
#
# $$\boxed{\;\tilde\varepsilon = \gamma\,\varepsilon(x_t, t, y) + (1-\gamma)\,\varepsilon(x_t, t, \varnothing) .\;}$$
#
# The weights add up to 1. With γ = 0 the label is ignored, with γ = 1 we have the conditional noise, and both
# are ordinary sampling. Guidance proper is γ > 1: then the second weight is *negative*, and we leave the
# unlabelled noise behind us. The same line, written as a walk:
#
# $$\tilde\varepsilon = \varepsilon(x_t, t, \varnothing)
# + \gamma\,\big(\varepsilon(x_t, t, y) - \varepsilon(x_t, t, \varnothing)\big) .$$
#
# Start where the network would go without a label, and go γ times the way that the label makes. For the
# pixel from above:

# %%
for scale in (0, 1, 2, 3):
    print(f"γ = {scale}: {scale} · 0.5 + {1 - scale:2} · 0.2 = {scale * 0.5 + (1 - scale) * 0.2:.1f}")

# %% [markdown]
# ### Exercise: the guided noise

# %% exercise="classifier_free_guidance.guide" lines=1
# %%
guide = check(guide)

# %% [markdown]
# With two pixels it can be drawn. The two dots are what the network says without and with the label, and your
# `guide` puts a cross at each γ from −1 to 4. All crosses must lie on the straight line through the dots.
# See where 0 and 1 fall, and that from γ = 1 on the line leads to places that *neither* answer contains.

# %%
without, label = torch.tensor([[0.2, 0.5]]), torch.tensor([[0.5, 0.3]])
scales = [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0]
points = torch.cat([guide(label, without, scale) for scale in scales])

figure, axis = plt.subplots(figsize=(6.4, 3))
axis.plot(*points.T, "x-", color="grey", linewidth=0.8)
axis.plot(*without.T, "o", label=r"$\varepsilon(x_t, t, \varnothing)$")
axis.plot(*label.T, "o", label=r"$\varepsilon(x_t, t, y)$")
for scale, point in zip(scales, points, strict=True):
    axis.annotate(f"γ = {scale:g}", point.tolist(), (6, 6), textcoords="offset points")
axis.set(xlabel="noise in the first pixel", ylabel="in the second", xlim=(-0.2, 1.6))
axis.legend(loc="lower left");
# %% [markdown]
# ### What does it aim at?
#
# Undo the gradient and the logarithm in the definition of $\tilde p$:
#
# $$\tilde p(x_t \mid y) \;\propto\; p(x_t)\;p(y \mid x_t)^{\gamma} .$$
#
# Images stay as likely as they were, times the γ-th power of how recognisable they are. Say one image is
# certainly a 7, $p(y \mid x) = 0.95$, and another could be a 1 as well, $p(y \mid x) = 0.5$. The first gains on
# the second by a factor of 1.9 when γ = 1. With γ = 3 it is $1.9^3 \approx 6.9$. Guidance prefers what is
# *typical beyond doubt*, and gives up the rest: that is its whole virtue and its whole price.
#
# ## Four names for one number
#
# Few formulas have been written in so many ways. Always look for the weight of $\varepsilon(y)$: that is γ.
#
# | whose | guided noise | no guidance is | γ is |
# |---|---|---|---|
# | the slides and this course | $\gamma\,\varepsilon(y) + (1-\gamma)\,\varepsilon(\varnothing)$ | γ = 1 | $\gamma$ |
# | Ho & Salimans 2021 | $(1+w)\,\varepsilon(y) - w\,\varepsilon(\varnothing)$ | w = 0 | $1 + w$ |
# | Imagen (Saharia et al. 2022) | $w\,\varepsilon(y) + (1-w)\,\varepsilon(\varnothing)$ | w = 1 | $w$ |
# | GLIDE; `guidance_scale` in diffusers | $\varepsilon(\varnothing) + s\,(\varepsilon(y) - \varepsilon(\varnothing))$ | s = 1 | $s$ |
#
# The same letter w means two things, one apart, in two famous papers. And there is a trap in the last row.
# The pipelines of `diffusers` save the second half of the work when they can: at a `guidance_scale` of 1 *or
# less*, they switch guidance off and use the conditional noise. So a `guidance_scale` of 0 is γ = 1 and
# **not** γ = 0.
#
# The course's functions all take γ. For the paper's w there is this one:

# %% inline="classifier_free_guidance.scale_from_w"
# %% [markdown]
# ### Exercise: γ from anybody's scale

# %% exercise="classifier_free_guidance.guidance_scale_from"
# %%
guidance_scale_from = check(guidance_scale_from)

# %%
print("scale   slides  Ho & Salimans  Imagen  diffusers")
for value in (0.0, 0.5, 1.0, 3.0, 7.5):
    gammas = [guidance_scale_from(value, who) for who in ("slides", "ho_salimans", "imagen", "diffusers")]
    print(f"{value:5}   {gammas[0]:6}  {gammas[1]:13}  {gammas[2]:6}  {gammas[3]:9}")

# %% [markdown]
# ## A world where the truth is known
#
# Before any network, let us see what guidance does where both noises are known exactly. Lesson 06 has
# brought the tools: a mixture of normal distributions in the plane, whose scores with and without a label are
# formulas. We take three labels that overlap.

# %%
three = Mixture(
    weights=torch.tensor([0.5, 0.25, 0.25]),
    means=torch.tensor([[0.0, 0.45], [-0.45, -0.3], [0.45, -0.3]]),
    covs=0.05 * torch.stack([torch.eye(2)] * 3),
)


def exact_noises(mixture: Mixture, xt: Tensor, t: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The exact noise with and without the label. xt: (b, d); t, y: (b,) -> (b, d) each."""
    cond = component_scores(mixture, xt, t, alpha_bars)[torch.arange(len(y)), y]
    uncond = mixture_score(mixture, xt, t, alpha_bars)
    return eps_from_score(cond, t, alpha_bars), eps_from_score(uncond, t, alpha_bars)


# %% [markdown]
# The arrows below are scores at $t = 100$, for the label whose centre is the black cross. On the left, without
# the label, they lead to all three centres. In the middle, with the label, they lead to one. On the right is
# their difference, your `implicit_gradient`. Look at its directions: it does not point *to* the centre, but
# *away from the other two*. And look at its lengths: far above the cross, where no doubt is left about the
# label, the classifier has nothing to say.

# %%
line = torch.linspace(-1.2, 1.2, 13)
where = torch.cartesian_prod(line, line)
t, y = torch.full((len(where),), 100), torch.zeros(len(where), dtype=torch.int64)
cond, uncond = exact_noises(three, where, t, y)
fields = {
    r"$\nabla\,\log\,p(x_t)$": score_from_eps(uncond, t, alpha_bars),
    r"$\nabla\,\log\,p(x_t\,|\,y)$": score_from_eps(cond, t, alpha_bars),
    r"the difference, $\nabla\,\log\,p(y\,|\,x_t)$": implicit_gradient(cond, uncond, t, alpha_bars),
}
figure, axes = plt.subplots(1, 3, figsize=(8.6, 3.1), sharey=True, layout="constrained")
centres = alpha_bars[100].sqrt() * three.means
for axis, (title, field) in zip(axes, fields.items(), strict=True):
    axis.quiver(*where.T, *field.T, color=plots.COLOURS[0], scale=220, width=0.005)
    axis.plot(*centres[1:].T, "o", color="grey")
    axis.plot(*centres[0], "kX", markersize=8)
    axis.set(title=title, aspect="equal")
    axis.grid(False)
# %% [markdown]
# Now sample, with lesson 04's sampler and an `eps_model` that is your `guide`. Grey are draws of the whole
# mixture, and the colour is what comes out for our label. From left to right: with γ = 0 the label is ignored,
# and the points lie everywhere. With γ = 1 they fill their own hump, the part that overlaps the others
# included. Beyond that they back away from the neighbours, and the cloud becomes **smaller** and **wrong**: its
# centre is no longer where the hump's is.

# %%
def guided_walk(mixture: Mixture, noise: Tensor, scale: float, steps: int = 50) -> Tensor:
    """Samples of the mixture's first label, guided. noise: (b, d) -> (b, d)."""

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        return guide(*exact_noises(mixture, xt, t, torch.zeros_like(t)), scale)

    # These points are no images: they may lie beyond ±1, and nothing is clipped.
    *_, x0 = sample(eps_model, noise, alpha_bars, steps=steps, clip=False)
    return x0


generator = torch.Generator().manual_seed(0)
noise = torch.randn(600, 2, generator=generator)
everything = guided_walk(three, torch.randn(600, 2, generator=generator), 0.0)
figure, axes = plt.subplots(1, 4, figsize=(8.8, 2.6), sharex=True, sharey=True, layout="constrained")
for axis, scale in zip(axes, [0.0, 1.0, 2.0, 5.0], strict=True):
    axis.plot(*everything.T, ".", color="lightgrey", markersize=3)
    axis.plot(*guided_walk(three, noise, scale).T, ".", color=plots.COLOURS[1], markersize=2)
    axis.plot(*three.means[0], "kX", markersize=7)
    axis.set(title=f"γ = {scale:g}", aspect="equal", xlim=(-1.3, 1.3), ylim=(-1.2, 1.4))
# %% [markdown]
# ### Does it reach what it aims at?
#
# It is often said that CFG draws from $\tilde p(x_0 \mid y) \propto p(x_0)\,p(y \mid x_0)^\gamma$. It is worth
# knowing that it does not. To draw from that distribution, the sampler would need the scores of *this*
# distribution with noise added. Multiply it by the noising $q(x_t \mid x_0)$ and collect all $x_0$; by Bayes' rule,
# $q(x_t \mid x_0)\,p(x_0) = p(x_t)\,p(x_0 \mid x_t)$. So the noised target is
#
# $$\int q(x_t \mid x_0)\;p(x_0)\,p(y \mid x_0)^\gamma\,\mathrm dx_0
# \;=\; p(x_t)\;\mathbb E\big[\,p(y \mid x_0)^{\gamma} \,\big|\, x_t\big] .$$
#
# What do we use instead? The score of $p(x_t)\,p(y \mid x_t)^\gamma$. The label depends on $x_t$ only through
# $x_0$, so that $p(y \mid x_t) = \mathbb E[\,p(y \mid x_0) \mid x_t]$, and this is
#
# $$p(x_t)\;\Big(\mathbb E\big[\,p(y \mid x_0) \,\big|\, x_t\big]\Big)^{\gamma} .$$
#
# The mean of the powers, and the power of the mean. They agree for γ = 0 and γ = 1, and where $x_0$ leaves no
# doubt about the label; otherwise not. At each $t$ the guided score belongs to *a* distribution, but these
# distributions are not one distribution with more and more noise. So nothing promises that the walk ends
# in the one we named.
#
# How far off is it? Take a single dimension, two humps that overlap, and the label of the right one. The
# histograms are guided samples, the lines the densities that they are said to have. For γ = 1 they should
# agree. Then watch on which side the histogram leaves the line.

# %%
humps = Mixture(torch.tensor([0.5, 0.5]), torch.tensor([[0.35], [-0.35]]), torch.full((2, 1, 1), 0.09))
x = torch.linspace(-1.5, 2, 701)[:, None]
log_p = torch.logsumexp(-((x - humps.means.T) ** 2) / 0.18, dim=1)
no_noise = torch.ones(1)  # ᾱ = 1
log_label = mixture_log_posterior(humps, x, torch.zeros(len(x), dtype=torch.int64), no_noise)[:, 0]
noise = torch.randn(5000, 1, generator=generator)

figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.7), sharex=True, layout="constrained")
for axis, scale in zip(axes, [1.0, 2.0, 5.0], strict=True):
    axis.hist(guided_walk(humps, noise, scale, steps=100).flatten().numpy(), bins=60, density=True, alpha=0.5)
    axis.plot(x, torch.softmax(log_p + scale * log_label, dim=0) / 0.005, color=plots.COLOURS[1])
    axis.set(title=f"γ = {scale:g}", xlabel="$x_0$", xlim=(-1, 1.7))
axes[0].set_ylabel("density");
# %% [markdown]
# Guidance overshoots: it goes further from the other hump than its own formula asks for. So think of CFG as a
# good *direction* with a knob, rather than as a sampler for a known distribution. What the knob does must be
# measured, and we will.
#
# <details><summary><b>Think:</b> with exact scores, γ = 1 draws exactly from $p(x_0 \mid y)$, and every other γ is
# wrong. Why would anybody guide at all?</summary>
#
# Because the scores of a trained network are not exact. Squared error makes it hedge: where it is unsure, it
# answers with a mean of several things, and some of its samples end *between* digits. Such blunders are mostly
# where $p(y \mid x)$ is low, and guidance moves away from there. It trades faithfulness to the data's variety
# for fewer blunders. The better the network, the less of it is needed. Karras et al. (2024) take this further:
# they guide a network by a *worse version of itself*, with the same label, so that only the blunders are
# pushed away and not the variety.
# </details>
#
# ## One network for both
#
# We need two networks, then, one that is told the label and one that is not. Or **one** network with one more
# label, $\varnothing$, which stands for "none given".
#
# ### How a network is told a label
#
# As it is told the time. Lesson 03 made a vector of t that every block adds in. A label gets a vector too, out
# of a table with one learned row for each: `nn.Embedding`. The two are added,
#
# $$\text{emb} = \text{embed}(t) + \text{row}(y),$$
#
# and everything after that is lesson 03's. The table has $10 + 1$ rows. Digits are 0 … 9, so $\varnothing$ is
# number **10**. It is tempting to take 0 for "nothing", as one does with padding in texts. But 0 is a digit here;
# the network would have one row for "draw a zero" and "draw whatever you like".
#
# ### Exercise: a UNet with labels
#
# It inherits everything from lesson 03's `UNet`: `self.embed(t)` gives the time's vector, `self.encode(xt, emb)`
# the three things that `self.decode(…, emb)` takes.

# %% exercise="classifier_free_guidance.ConditionalUNet" stub="embed_with, forward"
# %%
ConditionalUNet = check(ConditionalUNet)

# %%
plain, with_label = UNet(), ConditionalUNet()
count = [sum(p.numel() for p in network.parameters()) for network in (plain, with_label)]
print(f"{count[0]:,} numbers without labels, {count[1] - count[0]:,} more with them")

# %% [markdown]
# Eleven rows of 128 numbers: labels cost next to nothing.
#
# ### Training CFG
#
# How does one network learn both noises? By seeing both kinds of examples. For each image in the batch, throw a
# coin that shows "drop" with probability $p$, usually 0.1. If it does, the network is told $\varnothing$ instead of the
# label. That is all there is to it:
#
# 1. draw an image $x_0$ with its label $y$, a level $t$ and a noise $\varepsilon$, as ever;
# 2. with probability $p$, put $\varnothing$ in the place of $y$;
# 3. take a gradient step on the loss of lesson 03, the network being told $t$ and the label that is left.
#
# Why does the row of $\varnothing$ then learn the *unconditional* noise? Recall from lesson 03 that the best answer
# under squared error is the mean of the targets, given everything the network is told. Told $y$, that is
# $\mathbb E[\varepsilon \mid x_t, y]$, the conditional noise. Whether a label is dropped is decided by a coin that
# knows nothing of the image. So the images that come with $\varnothing$ are a fair sample of all images, and the
# best answer is
#
# $$\mathbb E[\varepsilon \mid x_t, \varnothing] = \mathbb E[\varepsilon \mid x_t]
# = \sum_y p(y \mid x_t)\;\mathbb E[\varepsilon \mid x_t, y] ,$$
#
# the mean over all labels, each as likely as this $x_t$ makes it. Had we dropped only the hard images, or only the
# zeros, $\varnothing$ would mean "a hard one" or "a zero".
#
# ### Exercise: dropping labels
#
# The coins are passed in as $u$, uniform in [0, 1): a label is dropped where `u < drop`. A step of training can then
# be repeated exactly.

# %% exercise="classifier_free_guidance.drop_labels" lines=1
# %%
drop_labels = check(drop_labels)

# %%
images, labels = mnist("train")
u = torch.rand(60_000, generator=torch.Generator().manual_seed(0))
told = drop_labels(labels, u, drop=0.1, null=10)
print("labels:", labels[:15].tolist())
print("told:  ", told[:15].tolist())
print(f"share of labels dropped: {(told == 10).float().mean():.2f}")

# %% [markdown]
# ### Exercise: the loss
#
# Our network predicts $v$, so the loss is lesson 03's `v_loss(model, x0, t, eps, alpha_bars)`. It calls its model as
# `model(xt, t)`, and knows nothing of labels; a `lambda` can bring them in.

# %% exercise="classifier_free_guidance.cfg_loss" lines=2
# %%
cfg_loss = check(cfg_loss)

# %% [markdown]
# <details><summary><b>Think:</b> why not compute both losses for every image, with the label and without?</summary>
#
# It would be right, and cost twice as much for each step. The gradient of a dropped batch is a random estimate of
# the same thing. And nine parts in ten go where they are needed most: the conditional noise must get every
# detail of ten digits right, while the unconditional one only has to be good enough to be walked away from.
# </details>
#
# ### Two hundred steps of it
#
# A small network, lesson 03's loop, and your loss. Look for a steep fall within the first ten steps, and a slower one after it.

# %%
def draw(step: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    i = batch_indices(len(images), 32, step)
    t = torch.randint(1000, (32,), generator=generator)
    eps = torch.randn(images[i].shape, generator=generator)
    return images[i], t, eps, labels[i], torch.rand(32, generator=generator)


def loss_fn(network: NetworkWithLabel, x0: Tensor, t: Tensor, eps: Tensor, y: Tensor, u: Tensor) -> Tensor:
    return cfg_loss(network, x0, t, eps, y, u, alpha_bars, null=10, drop=0.1)


torch.manual_seed(0)
small = ConditionalUNet(channels=(16, 32), emb_dim=64).to(memory_format=torch.channels_last)
state = TrainState.start(small)
losses = [step.loss for step in train(state, draw, loss_fn, steps=200, lr=5e-3, ema_decay=0.97)]

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.plot(losses, linewidth=0.8)
axis.set(xlabel="training step", ylabel="loss", yscale="log");
# %% [markdown]
# Two hundred steps are a beginning: lesson 03's network took thousands to draw. So from here on we use the one that
# ships with the course, larger and trained for longer, by the same loss (`python -m course train mnist-cfg` makes it
# again).

# %%
network = load_weights(ConditionalUNet(**card("mnist-cfg")["config"]), "mnist-cfg")
network = network.to(memory_format=torch.channels_last)  # the same numbers, faster on a CPU

# %% [markdown]
# Has it understood the labels, and above all $\varnothing$? Give it an $x_t$ that is nothing but noise, $t = 999$. There
# $\sqrt{\bar\alpha_t}$ is almost 0, so $v$ is almost $-x_0$, and $-\hat v$ is the network's guess at the image. As the noise
# says nothing, the network is left with what it was *told*: the best guess is the mean of that digit, and for
# $\varnothing$ the mean of all digits. We average its guesses over sixteen noises. The first row is the small network's, the
# second the shipped one's, the third the truth. The small one has so far found out where there is ink at all. Compare the
# other two rows, and do not overlook the last column.

# %%
def guesses(network: nn.Module) -> Tensor:
    """What a network makes of pure noise under each of the 11 labels: (11, 1, 28, 28)."""
    noise = torch.randn(16, 1, 28, 28, generator=torch.Generator().manual_seed(3))
    t, y = torch.full((176,), 999), torch.arange(11).repeat_interleave(16)
    with torch.no_grad():
        return -network(noise.repeat(11, 1, 1, 1), t, y).reshape(11, 16, 1, 28, 28).mean(dim=1)


means = torch.stack([*(images[labels == k].mean(dim=0) for k in range(10)), images.mean(dim=0)])
titles = [*map(str, range(10)), "∅", *[""] * 22]
plots.show(torch.cat([guesses(state.ema), guesses(network), means]), titles, columns=11, size=0.75);
# %% [markdown]
# ### What is a label worth?
#
# Take a hundred test digits, noise them to some $t$, and let the network predict $v$ twice, with the right label and
# with none. Whoever knows more errs less. By how much depends on $t$, and it is worth a guess before you look: where
# does the label help most?

# %%
held_out, held_out_labels = mnist("test")
x0, y = held_out[:100], held_out_labels[:100]
levels = range(49, 1000, 95)
errors = []
with torch.no_grad():
    for level in levels:
        t, eps = torch.full((100,), level), torch.randn(x0.shape, generator=generator)
        xt, v = q_sample(x0, t, eps, alpha_bars), v_target(x0, t, eps, alpha_bars)
        outputs = [network(xt, t, told) for told in (y, torch.full_like(y, 10))]
        errors.append([(out - v).square().mean().item() for out in outputs])

figure, axis = plt.subplots(figsize=(6.4, 2.8))
axis.plot(levels, errors, "o-", label=["with the label", "without (∅)"])
axis.set(xlabel="t", ylabel="mean squared error of v", ylim=(0, None))
axis.legend();
# %% [markdown]
# On the left the curves lie on each other: there the network *sees* which digit it is, and telling it is no news. They
# part where the image becomes illegible, and on the right edge the label is nearly all that is known. For the best possible
# answers, the gap between the curves is exactly the mean squared distance between the two answers (both are
# conditional means, and Pythagoras holds for those), and this distance is what guidance multiplies by γ. So guidance
# acts early in the walk, where it is decided *what* is drawn, and leaves the details alone.
#
# ## Sampling: two answers from one call
#
# Each step of the sampler needs the network's answer with and without the label. Two calls would do. But a network
# handles the images of a batch independently, so both questions fit into **one** call with a batch of $2b$: all images
# with their labels, and then all images again with $\varnothing$.
#
# $$\underbrace{x^{(1)}, \dots, x^{(b)}}_{y^{(1)}, \dots,\, y^{(b)}},\;
# \underbrace{x^{(1)}, \dots, x^{(b)}}_{\varnothing, \dots,\, \varnothing}$$
#
# On a GPU that is not yet full, a batch of $2b$ takes hardly longer than one of $b$. On a CPU it takes twice as long;
# that is what guidance costs, and there is no gradient to compute, unlike in lesson 06.
#
# ### Exercise: the guided `eps_model`
#
# As in lesson 06, we do not touch the sampler; we make another `eps_model`. Yours is called as `(xt, t)`, asks the
# network once, turns the answers into noise with `to_eps`, takes the halves apart and lets `guide` mix them. Mind which
# half is which.

# %% exercise="classifier_free_guidance.cfg_eps_model"
# %%
cfg_eps_model = check(cfg_eps_model)

# %% [markdown]
# <details><summary><b>Think:</b> the network predicts v. Must it be converted to noise <i>before</i> guidance, or may
# one guide v and convert afterwards?</summary>
#
# Either way. The conversion is $\varepsilon = a\,v + b\,x_t$, with $a = \sqrt{\bar\alpha_t}$ and $b = \sqrt{1-\bar\alpha_t}$ the
# same for both halves. Guide after converting: $\gamma\,(a v_y + b x_t) + (1-\gamma)(a v_\varnothing + b x_t)$. The weights add
# up to 1, so $b x_t$ stands there exactly once: $a\,(\gamma v_y + (1-\gamma) v_\varnothing) + b x_t$, which is guidance before
# converting. The same holds for $x_0$: $\hat x_0$ is guided along a straight line too. It would *not* hold if the weights
# added up to anything else, and it no longer holds once something is clipped in between. The next cell tries it.
# </details>

# %%
xt, t, y = torch.randn(4, 1, 28, 28, generator=generator), torch.tensor([50, 400, 700, 950]), torch.arange(4)
with torch.no_grad():
    v_cond, v_uncond = network(xt, t, y), network(xt, t, torch.full_like(y, 10))
    before = to_eps(guide(v_cond, v_uncond, 3.0), xt, t, alpha_bars, "v")
    after = cfg_eps_model(network, y, 10, alpha_bars, 3.0, kind="v")(xt, t)
print("guiding v or ε, the same to 1e-4:", bool((before - after).abs().max() < 1e-4))

# %% [markdown]
# ### Digits to order
#
# Ten labels, five times each, in 25 steps, with the γ that the course recommends for this network. (Why this one? We are
# coming to it.) Each column should hold five times the same digit, each time in another hand.

# %%
y = torch.arange(50) % 10
noise = torch.randn(50, 1, 28, 28, generator=generator)
eps_model = cfg_eps_model(network, y, network.null, alpha_bars, GUIDANCE_SCALE)
*_, x0 = sample(eps_model, noise, alpha_bars, steps=25)
plots.grid(x0, columns=10).resize((604, 304))

# %% [markdown]
# ### One noise, many γ
#
# Now the same eight noises in every row, with γ growing downwards, and the labels 2 to 9. In the first row the labels are
# ignored: those are the digits that these noises *want* to become. Go down each column. Find the row from which on the digit
# is the one asked for, and then watch what the last rows do to the strokes.

# %%
rows, scales = [], [0.0, 1.0, GUIDANCE_SCALE, 3.0, 6.0, 12.0]
for scale in scales:
    eps_model = cfg_eps_model(network, torch.arange(2, 10), network.null, alpha_bars, scale)
    rows.append([*sample(eps_model, noise[:8], alpha_bars, steps=25)][-1])
figure = plots.show(torch.cat(rows), columns=8, size=0.75)
for axis, scale in zip(figure.axes[::8], scales, strict=True):
    axis.set_title(f"γ = {scale:g}", fontsize=9, loc="left")
# %% [markdown]
# <details><summary><b>Think:</b> nothing forces the second half of the batch to be told $\varnothing$. What would you get if it
# were told another label, say 1, while the first half is told 7?</summary>
#
# $\varepsilon(1) + \gamma\,(\varepsilon(7) - \varepsilon(1))$: a 7 that is pushed away from being a 1, and would be given a bar
# through its stem or a wide roof. Text-to-image programs call it a *negative prompt*: what stands in the place of $\varnothing$
# is what you do not want to see.
# </details>
#
# ## The sweep
#
# Eyes tire, so measure. For each γ we draw a hundred digits and ask three questions, all of them of lesson 04's judge:
#
# - **Is it what was asked for?** The share of digits in which the judge sees the label.
# - **Is it varied?** Lesson 06's `diversity`: how far apart the features of digits with the same label are, on average.
# - **Is it like MNIST?** The Fréchet distance, which punishes both blunders and monotony.
#
# To be quick, we take $N = 100$ and 12 steps, so only the shape of the curves counts. The README has the numbers at
# $N = 1000$ and 25 steps (`python -m tests.benchmarks guidance`). Before you look: which curve rises, which falls,
# and which has its best point in between?

# %%
judge = metrics.load_judge()
real = metrics.fit_gaussian(metrics.judge_features(judge, images[:10_000]))
y = torch.arange(100) % 10
noise = torch.randn(100, 1, 28, 28, generator=generator)


def measure(x0: Tensor, y: Tensor) -> tuple[float, float, float]:
    """The share of the asked-for label, the diversity and the Fréchet distance."""
    features = metrics.judge_features(judge, x0)
    distance = metrics.frechet_distance(features, real)
    return metrics.accuracy(judge, x0, y), diversity(features, y), distance


# %%
scales, found = [0.0, 1.0, 1.5, 2.0, 3.0, 5.0], []
for scale in scales:
    eps_model = cfg_eps_model(network, y, network.null, alpha_bars, scale)
    *_, x0 = sample(eps_model, noise, alpha_bars, steps=12)
    found.append(measure(x0, y))
of_real = [measure(held_out[k : k + 100], held_out_labels[k : k + 100]) for k in range(0, 1000, 100)]
of_real = torch.tensor(of_real).mean(dim=0)

# %%
figure, axes = plt.subplots(1, 3, figsize=(8.8, 2.8), layout="constrained")
titles = ["asked-for label", "diversity", "Fréchet distance"]
for axis, title, curve, line in zip(axes, titles, torch.tensor(found).T, of_real, strict=True):
    axis.plot(scales, curve, "o-")
    axis.axhline(line, color="grey", linestyle="--", label="100 test digits")
    axis.set(title=title, xlabel="γ", ylim=(0, None))
axes[0].legend(loc="lower right");
# %% [markdown]
# Read them together. With γ = 0, about one digit in ten is right, by chance; every label gets all ten digits, which is
# diversity of the wrong kind. The distance is large: nine parts in ten of
# its training went into the labelled noise, so this network is a poor one without a label. At γ = 1 most digits are
# right, and they are about as varied as real ones. A little guidance turns the blunders that are left into proper
# digits, and the distance falls. From there on the label is as good as certain, and more guidance only takes variety
# away. The distance rises again: these are very clear digits, and *too* clear for a sample of what people write.
#
# At its best the curve lies below the dashed line. Do not conclude that these digits are more real than real ones. Few images
# have a large distance because their own spread moves their mean about. Guided digits spread less, and their labels are
# spread evenly instead of by chance. Lesson 04's caution about $N$ has another side here: a measure can be pleased by
# monotony.
#
# That is the trade-off of guidance: **fidelity for diversity**. Which point is best depends on what the samples are for. The
# course takes `GUIDANCE_SCALE`, about the smallest γ that draws 99 % as asked for, and for this network that is also
# near the smallest distance. Do not carry it over to other models: for text-to-image, whose labels are whole
# sentences and whose networks are far from perfect, 5 to 8 is usual.
#
# ### What too much of it breaks
#
# Look once more at the last row of the picture with many γ. An extrapolated noise can point outside the range of images. For
# three γ, we count the pixels of $\hat x_0$ that lie outside [−1, 1] by more than 0.2, at each step of a walk, *before* the
# sampler clips them.

# %%
def beyond(scale: float) -> list[float]:
    """The share of pixels of x̂_0 beyond ±1.2 at each step of a guided walk."""
    inner, shares = cfg_eps_model(network, y[:10], network.null, alpha_bars, scale), []

    def eps_model(xt: Tensor, t: Tensor) -> Tensor:
        eps_hat = inner(xt, t)
        shares.append((predict_x0(xt, t, eps_hat, alpha_bars).abs() > 1.2).float().mean().item())
        return eps_hat

    list(sample(eps_model, noise[:10], alpha_bars, steps=25))
    return shares


figure, axis = plt.subplots(figsize=(6.4, 2.8))
for scale in (1.0, GUIDANCE_SCALE, 4.0, 12.0):
    axis.plot(range(1, 26), beyond(scale), label=f"γ = {scale:g}")
axis.set(xlabel="step of the walk, noise first", ylabel=r"pixels of $\hat{x}_0$ beyond ±1.2", ylim=(0, None))
axis.legend();
# %% [markdown]
# Clipping catches them, and what is clipped becomes plain black or plain white: hence the hard strokes. In colour
# images it is the oversaturated look of too high a guidance scale. Three remedies are in use. Imagen scales each $\hat x_0$
# back into the range instead of cutting it off ("dynamic thresholding"). Lin et al. (2023) scale the guided output so that
# its spread is that of the conditional one. And Kynkäänniemi et al. (2024) guide only at medium noise levels, and
# leave the rest of the walk alone.
#
# ### Are they good for anything?
#
# A hard test for made-up digits: let them *teach*. Draw 10,000 of them, train a small classifier on these alone, and test it
# on real digits that neither it nor the sampler has ever seen. Then train the same classifier on 10,000 real ones. Whatever
# the drawn digits lack, variety above all, shows as errors. `python -m tests.benchmarks synthetic` measures
# how many (bring some patience: it draws ten thousand digits).
#
# ## Beside the library
#
# The pipelines of `diffusers` guide the network's raw output, in our case $v$, with the formula $\varepsilon(\varnothing) + s\,(
# \varepsilon(y) - \varepsilon(\varnothing))$. With the same network, noise, steps and scale they must draw the same digits.

# %%
from diffusers import DDIMScheduler

scheduler = DDIMScheduler(
    beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=True,
    timestep_spacing="trailing", set_alpha_to_one=True,
)
scheduler.set_timesteps(25)
y, x, scale = torch.arange(8), noise[:8], 2.0
with torch.no_grad():
    for t in scheduler.timesteps:
        times, told = t.expand(16), torch.cat([torch.full_like(y, 10), y])
        v_uncond, v_cond = network(torch.cat([x, x]), times, told).chunk(2)
        v = v_uncond + scale * (v_cond - v_uncond)
        x = scheduler.step(v, t, x, use_clipped_model_output=True).prev_sample

eps_model = cfg_eps_model(network, y, 10, alpha_bars, guidance_scale_from(scale, "diffusers"))
*_, ours = sample(eps_model, noise[:8], alpha_bars, steps=25)
print("on average the same to a level of grey:", bool((ours - x).abs().mean() < 2 / 255))

# %% [markdown]
# ## Recap
# 1. Bayes' rule, read backwards: the score with the label minus the score without it is the gradient of a classifier that
#    nobody trained.
# 2. Reweighted, $\tilde\varepsilon = \gamma\,\varepsilon(x_t, t, y) + (1-\gamma)\,\varepsilon(x_t, t, \varnothing)$: a line through two
#    points, and guidance is the part beyond the second.
# 3. One network learns both, if each label is dropped one time in ten, independently, for a null label that is no class.
# 4. Sampling asks both questions in one batch of $2b$. The sampler is lesson 04's, with another `eps_model`.
# 5. γ buys the asked-for label with diversity. It is not the score of a sharpened distribution, so choose it by measuring.
#
# **What can go wrong.** w, 1 + w and γ mixed: one too little or too much, and nobody notices. A null label that is a real class.
# Labels dropped with $1-p$, or a whole batch at a time. The halves of the batch exchanged, so that more γ means less label.
# `repeat_interleave` for the images and `cat` for the labels. A network never trained with $\varnothing$, whose row of the table
# is still random. Guidance of a v that is then taken for ε. Samples judged at one γ and published at another.
#
# **Read on.** Ho & Salimans, *Classifier-Free Diffusion Guidance* (arXiv 2207.12598), five pages that are worth it. Dhariwal & Nichol,
# *Diffusion Models Beat GANs on Image Synthesis* (arXiv 2105.05233), for where it came from. Nichol et al., *GLIDE* (arXiv
# 2112.10741), and Saharia et al., *Imagen* (arXiv 2205.11487), for text as the label. Bradley & Nakkiran, *Classifier-Free Guidance is
# a Predictor-Corrector* (arXiv 2408.09000), for what CFG does not draw from. Kynkäänniemi et al. (arXiv 2404.07724) on guidance
# in an interval, Lin et al. (arXiv 2305.08891) on its rescaling, and Karras et al., *Guiding a Diffusion Model with a Bad Version of
# Itself* (arXiv 2406.02507). Azizi et al. (arXiv 2304.08466) teach classifiers with guided samples at full size.
#
# **Next.** A label says *what* to draw. Lesson 08 says *where*: it adds a picture as a condition, to a network that is already trained.
