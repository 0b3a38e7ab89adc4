# %% [markdown]
# # 05 · Latent diffusion: a smaller place to diffuse in
#
# **After this lesson you can**
# - derive a VAE's loss from the likelihood of an image, and say of each term what is summed and what is
#   averaged;
# - write a VAE, its KL term and its loss, see what it keeps and what it loses, and recognise a collapsed
#   one;
# - run lessons 03 and 04 on its latents: scale them, say why, draw digits, and count what was saved.
#
# **Time** about 100 minutes; a good place to pause is marked. **Needs** lessons 03 and 04, the
# Kullback–Leibler divergence, and PyTorch modules.

# %%
import math
from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from torch import Tensor, nn

from course import plots
from course.checks import check, hint
from course.data import mnist
from course.forward_process import alpha_bars_from_betas, at, cosine_schedule, q_sample, snr
from course.latent_diffusion import count_flops, encode_all, load_latent_ddpm, load_vae
from course.metrics import frechet_distance, judge_features, load_judge
from course.sampling import EpsModel, as_eps_model, normal_like, predict_x0, sample, timesteps
from course.training import TrainState, UNet, batch_indices, train, v_loss
from course.weights import card, load_weights

plots.set_style()
images, _ = mnist("train")
test_images, test_labels = mnist("test")

# %% [markdown]
# ## How to reduce the computational cost of diffusion models?
#
# Lesson 04 called its network fifty times for one batch of digits, and those digits had 28 × 28 pixels.
# A photograph of 512 × 512 pixels in colour has a thousand times as many numbers. What would one call
# cost then?
#
# Almost all the work of a UNet is convolution. Count it for one: an output of $h \times w$ positions and
# $c_\text{out}$ channels is $h\,w\,c_\text{out}$ numbers, and each of them is a sum of
# $c_\text{in}\,k\,k$ products, everything that lies under the kernel. A product and the addition that
# collects it are two operations, two FLOPs.
#
# By hand: a 3 × 3 convolution from 2 channels to 5, at an output of 7 × 4. There are
# $7\cdot4\cdot5 = 140$ numbers, each of $2\cdot 3\cdot 3 = 18$ products: $140 \cdot 18 \cdot 2 = 5040$
# FLOPs.
#
# ### Exercise: what a convolution costs

# %% exercise="latent_diffusion.conv_flops" lines=2
# %%
conv_flops = check(conv_flops)

# %% [markdown]
# Nobody adds up a whole network by hand. PyTorch can watch a computation and count, and the course's
# `count_flops` asks it to. On one convolution it must agree with you.

# %%
conv = nn.Conv2d(2, 5, 3, padding=1)
print("by your formula:", conv_flops(conv, 7, 4))
print("counted by torch:", count_flops(lambda: conv(torch.zeros(1, 2, 7, 4))))

# %% [markdown]
# In your formula the size of the image stands as $h \cdot w$: twice the side, four times the work. The
# attention layer is worse. Each position looks at every other, so its work grows with $(h\,w)^2$,
# sixteen times for twice the side. Let us count the UNet of lesson 03 on larger and larger images. (The
# device "meta" has shapes and no numbers, so that nothing is really computed.)
#
# The second curve is the promise of this lesson: the same network on something that has *a quarter of
# the side* and four channels. (Lesson 03's UNet folds 2 × 2 pixels into channels before it begins, so on
# the image its layers run at half the side. On the latents they run at a quarter.) Look at the distance
# between the curves, and how it grows where attention takes over. Each step up the vertical axis is a
# factor of ten.

# %%
def unet_flops(channels: int, side: int, patch: int) -> int:
    """FLOPs of one call of lesson 03's network on one image."""
    with torch.device("meta"):
        network = UNet(in_channels=channels, patch=patch)
        x, t = torch.empty(1, channels, side, side), torch.empty(1, dtype=torch.int64)
        return count_flops(lambda: network(x, t))


sides = [28, 56, 112, 224, 448]
on_pixels = [unet_flops(1, side, patch=2) for side in sides]
on_latents = [unet_flops(4, side // 4, patch=1) for side in sides]
figure, axis = plt.subplots()
axis.loglog(sides, on_pixels, "o-", label="on the image")
axis.loglog(sides, on_latents, "o-", label="on latents, a quarter of its side")
axis.set(xlabel="side of the image", ylabel="FLOPs of one call", xticks=sides, xticklabels=sides)
axis.minorticks_off()
axis.legend()
print(f"saved: a factor of about {on_pixels[0] / on_latents[0]:.0f} at 28 pixels, "
      f"{on_pixels[-1] / on_latents[-1]:.0f} at 448");
# %% [markdown]
# Half the side again would multiply both factors once more. That is the idea of the **latent diffusion
# model**, LDM (Rombach et al., 2022), the model behind Stable Diffusion: *use a pretrained VAE to
# compress the image to a latent, and diffuse there*. For Stable Diffusion the image has
# $512\cdot512\cdot3 = 786{,}432$ numbers and the latent $64\cdot64\cdot4 = 16{,}384$, 48 times fewer. It
# has 64 times fewer positions, so that a layer of attention over all of them costs 4,096 times less.
#
# Why should that work? Most of what a file of an image holds is fine detail, the grain and the exact
# course of each edge. A diffusion model spends network calls on all of it. In lesson 04 you saw it
# decide coarse things first and then polish for most of its walk. LDM splits the job. An *autoencoder*
# takes care of detail, once, in a single call. The *diffusion model* decides only what the picture
# shows.
#
# So we need a network that makes an image small, one that makes it large again, and we need the small
# version to be a pleasant place for diffusion. That last wish is what the V in VAE is for.
#
# ## An autoencoder with a likelihood
#
# An ordinary autoencoder is trained to return what it was given, through a narrow middle. Nothing in its
# loss says *where* in the middle its codes should lie. They may be of any size, with gaps between them,
# and in a gap the decoder draws anything at all. Diffusion would have a hard time there.
#
# The variational autoencoder (Kingma & Welling, 2014) begins elsewhere: with a way to *make* images.
#
# 1. Draw latents from a standard normal, $z \sim p(z) = \mathcal N(0, I)$.
# 2. Let a network, the **decoder**, draw an image $\hat x(z)$, and allow for an error of variance
#    $\sigma^2$ in each pixel: $p(x \mid z) = \mathcal N(\hat x(z),\, \sigma^2 I)$.
#
# As in lesson 03 we want real images to be likely under this, and as there the likelihood is an integral
# that nobody can compute, over all latents that might have led to $x$:
#
# $$p(x) = \int p(x \mid z)\,p(z)\,dz .$$
#
# ### The ELBO
#
# For nearly all $z$ the integrand is almost 0: the decoder draws another digit. If only we knew which
# few $z$ fit! So let a second network, the **encoder**, look at $x$ and propose some. Its proposal is a
# distribution $q(z \mid x)$, and for now it may be any at all. Three steps lead to the bound. The first
# is that $\log p(x)$ does not depend on $z$, so averaging it over $q$ changes nothing. The second is
# $p(x) = p(x, z)/p(z\mid x)$. The third multiplies and divides by $q$:
#
# $$\begin{aligned}
# \log p(x) &= \mathbb E_{q(z\mid x)}\big[\log p(x)\big]
# = \mathbb E_q\!\left[\log\frac{p(x \mid z)\,p(z)}{p(z \mid x)}\right]
# = \mathbb E_q\!\left[\log\frac{p(x\mid z)\,p(z)}{q(z\mid x)}\right]
# + \mathbb E_q\!\left[\log\frac{q(z\mid x)}{p(z\mid x)}\right] \\[4pt]
# &= \underbrace{\mathbb E_q\big[\log p(x\mid z)\big] - D_\text{KL}\big(q(z\mid x)\,\|\,p(z)\big)}_{\text{ELBO}}
# \;+\; \underbrace{D_\text{KL}\big(q(z\mid x)\,\|\,p(z\mid x)\big)}_{\ge\, 0} .
# \end{aligned}$$
#
# Nothing was approximated. The last term is the encoder's error: how far its proposal is from the true
# posterior $p(z\mid x)$. We cannot compute it, but it is never negative, so the rest is a *lower bound*
# of $\log p(x)$, the **ELBO**. Raising the ELBO does two good things at once. It makes $x$ more likely,
# and it makes the encoder more truthful.
#
# You have met it before. Lesson 03's bound is this one with the whole noisy walk $x_{1:T}$ in the place
# of $z$. There $q$ was fixed, the forward process; here it is learned.
#
# ### By hand: one pixel, one latent
#
# Let the decoder be $\hat x(z) = 2z$ with $\sigma = 1$, and let us see the pixel $x = 2.5$. This is so
# simple that everything is known. The pixel is a sum of two normal variables, $2z$ and the error, so
# $p(x) = \mathcal N(0,\, 4 + 1)$. The posterior is again normal: precisions add up to $1 + 4 = 5$, so
# its variance is $0.2$, and its mean is $2x/5 = 1$ (complete the square, as in lesson 04).
#
# Propose $q = \mathcal N(m, v)$ and compute the ELBO. With $\mathbb E_q(x-2z)^2 = (x-2m)^2 + 4v$,
#
# $$\text{ELBO} = -\tfrac12\log 2\pi - \tfrac12\big[(x-2m)^2 + 4v\big]
# - \underbrace{\tfrac12\big[m^2 + v - 1 - \log v\big]}_{\text{KL, derived below}} .$$
#
# In the figure the dashed line is $\log p(x)$. The curve must stay below it, and touch it in exactly one
# place: at the true posterior, $m = 1$ on the left and $v = 0.2$ on the right.

# %%
def elbo_by_hand(m: Tensor, v: Tensor, x: float = 2.5) -> Tensor:
    """The ELBO of q = N(m, v) where z ~ N(0, 1) and x | z ~ N(2z, 1)."""
    likelihood = -0.5 * math.log(2 * math.pi) - 0.5 * ((x - 2 * m) ** 2 + 4 * v)
    return likelihood - 0.5 * (m**2 + v - 1 - v.log())


evidence = -0.5 * math.log(2 * math.pi * 5) - 2.5**2 / 10
best = elbo_by_hand(torch.tensor(1.0), torch.tensor(0.2))
print(f"log p(x) = {evidence:.3f}, the ELBO of the true posterior = {best:.3f}")

m, v = torch.linspace(0.2, 1.8, 100), torch.linspace(0.02, 0.8, 100)
figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), sharey=True, layout="constrained")
left.plot(m, elbo_by_hand(m, torch.full_like(m, 0.2)))
left.set(xlabel="mean $m$ of q, at $v = 0.2$", ylabel="ELBO")
right.plot(v, elbo_by_hand(torch.ones_like(v), v))
right.set(xlabel="variance $v$ of q, at $m = 1$")
for axis in (left, right):
    axis.axhline(evidence, linestyle="--", color=plots.COLOURS[1], label=r"$\log p(x)$")
right.legend();
# %% [markdown]
# ### What is summed and what is averaged
#
# Now for real images. Let us look at each term of the ELBO and say exactly how many numbers become one,
# because that is where VAEs go wrong.
#
# **The likelihood: a sum over pixels.** Given $z$, the $d = 784$ pixels are independent normal
# variables. A product of densities has a sum of logarithms:
#
# $$\log p(x\mid z) = -\frac{1}{2\sigma^2}\sum_{i=1}^{d}\big(x_i - \hat x_i(z)\big)^2 - \frac d2\log 2\pi\sigma^2
# = -\frac{1}{2\sigma^2}\,\|x-\hat x(z)\|^2 + \text{const}.$$
#
# **The average over $q$: one draw.** We draw a single $z$ from $q(z\mid x)$. One is noisy, but it is
# right on average, and there will be thousands of steps.
#
# **The KL: a sum over latents.** The encoder proposes independent latents,
# $q(z\mid x) = \prod_j \mathcal N(m_j, v_j)$, and the KL of a product of independents is the sum of
# their KLs.
#
# **The batch: a mean.** The ELBO is a statement about *one* image; we want its average over images.
#
# So the negative ELBO of an image is $\frac{1}{2\sigma^2}\|x-\hat x\|^2 + D_\text{KL}$. Multiplying a
# loss by a constant does not move its minimum. Multiply by $\sigma^2$:
#
# $$\boxed{\;L = \underbrace{\tfrac12\,\|x-\hat x(z)\|^2}_{\text{sum over pixels}}
# + \;\sigma^2\cdot\underbrace{D_\text{KL}\big(q(z\mid x)\,\|\,\mathcal N(0,I)\big)}_{\text{sum over latents}} .\;}$$
#
# In this form there is one number to choose: the **KL's weight is the decoder's variance** $\sigma^2$.
# "How much should the KL count?" is the question "how large an error in a pixel do we forgive?". With
# $\sigma^2 = 1$ we would forgive errors as large as half the way from black to white. Our weights were
# trained with $\sigma^2 = 0.02$, a typical error of $0.14$.
#
# <details><summary><b>Think:</b> somebody writes <code>F.mse_loss(x, x_hat) + kl.mean()</code>, where
# <code>kl</code> is summed over latents. Which $\sigma^2$ did they choose without knowing it?</summary>
#
# `mse_loss` averages over the 784 pixels, and has no ½. Multiply by $784/2$ to make it
# $\frac12\|x-\hat x\|^2$; the KL is then multiplied by 392. That is a decoder with $\sigma \approx 20$,
# for pixels between −1 and 1. For it any image is as good as another, and the best it can do is ignore
# $z$ altogether. Below you will see what that looks like.
# </details>
#
# ### A draw that gradients can pass
#
# One thing is in the way. The encoder should learn from the squared error, but between the two there is
# a random draw, and one cannot differentiate "draw". The way out is to draw the randomness *outside*:
# take $\varepsilon \sim \mathcal N(0, I)$, which has nothing to learn, and compute
#
# $$z = m + \sqrt v\;\varepsilon .$$
#
# This has the distribution $\mathcal N(m, v)$, and it is an ordinary formula of $m$ and $v$: the
# **reparameterisation trick**. Try it by hand on $f(z) = z^2$ with $m = 1$ and standard deviation
# $s = 0.5$. There $\mathbb E f = m^2 + s^2$, whose true slopes are $2m = 2$ and $2s = 1$. Autograd,
# going back through many draws, should find the same:

# %%
generator = torch.Generator().manual_seed(0)
m, s = torch.tensor(1.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
eps = torch.randn(100_000, generator=generator)

((m + s * eps) ** 2).mean().backward()
print(f"slope by the mean: {m.grad:.1f}, by the standard deviation: {s.grad:.1f}")

# %% [markdown]
# The encoder does not output $v$, which would have to be positive, but its logarithm `logvar`, which may
# be any number. The standard deviation is $\sqrt v = \exp(\tfrac12\,\texttt{logvar})$.
#
# ### Exercise: the draw

# %% exercise="latent_diffusion.reparameterise" lines=1
# %%
reparameterise = check(reparameterise)

# %% [markdown]
# Stuck? `hint(reparameterise)` says a little more with each call.
#
# In the figure below, one image's posterior has three settings, and a thousand draws of each. The spread
# must be $e^{\texttt{logvar}/2}$: 1 for 0, about 0.37 for −2 and about 0.14 for −4, always around the
# mean.

# %%
eps = torch.randn(1000, generator=generator)
figure, axis = plt.subplots(figsize=(6.4, 2.6))
for mean, logvar in [(0.0, 0.0), (1.5, -2.0), (-1.5, -4.0)]:
    z = reparameterise(torch.full((1000,), mean), torch.full((1000,), logvar), eps)
    axis.hist(z, bins=60, range=(-3.5, 3.5), alpha=0.6, label=f"mean {mean:g}, logvar {logvar:g}")
axis.set(xlabel="z", ylabel="draws of 1000")
axis.legend();
# %% [markdown]
# ### The network
#
# The encoder halves the side twice, 28 → 14 → 7, and ends with eight channels: four means and four
# log-variances at each of the 7 × 7 positions. So 784 pixels become $4\cdot7\cdot7 = 196$ latents, which
# still lie in a *picture* of 7 × 7: that is why a UNet will feel at home there. The decoder goes back.
# As in lesson 03, pixels are folded into channels so that no convolution runs at full size.

# %% inline="latent_diffusion.make_encoder"
# %% inline="latent_diffusion.make_decoder"
# %% [markdown]
# ### Exercise: the VAE
#
# `encode` and `decode` are given. Write `forward`: from the image to the reconstruction of one draw,
# with mean and log-variance beside it, because the loss will need them.

# %% exercise="latent_diffusion.VAE" stub="forward" lines=2
# %%
VAE = check(VAE)

# %% [markdown]
# ### The KL in closed form
#
# Take a single latent with mean $m$ and variance $v$. By definition the KL is the average of
# $\log q - \log p$ over draws of $q$, and both are normal densities:
#
# $$D_\text{KL} = \mathbb E_q\big[\log q(z) - \log p(z)\big]
# = \tfrac12\,\mathbb E_q\Big[-\log v - \frac{(z-m)^2}{v} + z^2\Big].$$
#
# (The $\log 2\pi$ cancel.) Two averages are needed: $\mathbb E_q(z-m)^2 = v$ by the definition of a
# variance, and $\mathbb E_q z^2 = m^2 + v$. So
#
# $$\boxed{\;D_\text{KL}\big(\mathcal N(m, v)\,\|\,\mathcal N(0, 1)\big) = \tfrac12\big[m^2 + v - 1 - \log v\big] .\;}$$
#
# Read it as a price list. $m^2/2$ is the price of going away from 0, and $\frac12(v - 1 - \log v)$ of
# having a width other than 1. A narrow posterior is dear, because it *says* a lot: being sure of $z$ to
# 1 % ($v = 10^{-4}$) costs $\frac12\log 10^4 = 4.6$ nats. Only a latent with $m = 0$ and $v = 1$ is
# free, and that one says nothing about the image.
#
# By hand: $m = 1$ and standard deviation 3 give $\frac12(1 + 9 - 1 - \log 9) = 3.40$ nats.
#
# ### Exercise: the KL of an image
#
# Shapes `(b, c, h, w)` in, `(b,)` out: the sum over all of an image's latents.

# %% exercise="latent_diffusion.kl_to_standard_normal" lines=1
# %%
kl_to_standard_normal = check(kl_to_standard_normal)

# %% [markdown]
# Where is it cheap to be? In the map below, dark means a small KL. The one free place is the white
# cross. Look how the price rises steeply towards small variances (down) and slowly towards large ones
# (up).

# %%
m, logvar = torch.meshgrid(torch.linspace(-3, 3, 121), torch.linspace(-6, 3, 121), indexing="xy")
kl = kl_to_standard_normal(m.reshape(-1, 1, 1, 1), logvar.reshape(-1, 1, 1, 1)).reshape(m.shape)

figure, axis = plt.subplots(figsize=(5.4, 3.4))
lines = axis.contourf(m, logvar, kl, levels=[0, 0.1, 0.5, 1, 2, 3, 4, 6, 8, 14], cmap="viridis")
axis.plot(0, 0, "w+", markersize=12)
axis.set(xlabel="mean", ylabel="logvar")
axis.grid(False)
figure.colorbar(lines, label="KL in nats");
# %% [markdown]
# ### Exercise: the loss
#
# All parts are there. Sum over pixels, sum over latents, mean over the batch.

# %% exercise="latent_diffusion.vae_loss" lines=3
# %%
vae_loss = check(vae_loss)

# %% [markdown]
# Now train one, with the loop of lesson 03: a narrow VAE, for a hundred small steps. This takes some
# seconds. It is far from finished after that, but the loss must fall.

# %%
def draw(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = images[batch_indices(len(images), 32, step)]
    return x, torch.randn(len(x), 4, 7, 7, generator=generator)


def train_vae(kl_weight: float, steps: int = 100) -> tuple[nn.Module, list[float]]:
    """A narrow VAE after a few steps, and its losses."""
    torch.manual_seed(0)
    state = TrainState.start(VAE(width=16))
    walk = train(state, draw, lambda vae, x, eps: vae_loss(vae, x, eps, kl_weight), steps=steps, lr=1e-2)
    losses = [step.loss for step in walk]
    return state.ema, losses


learned, losses = {}, {}
learned[0.02], losses[0.02] = train_vae(kl_weight=0.02)

# %% [markdown]
# On the left is the loss, on the right what it buys: six test digits above and their reconstructions
# below, decoded from the mean. Expect the right digits, still soft.

# %%
@torch.no_grad()
def reconstruct(vae: nn.Module, x: Tensor) -> Tensor:
    """What comes back of images, decoded from the mean of q(z | x)."""
    mean, _ = vae.encode(x)
    return vae.decode(mean).clamp(-1, 1)


x = test_images[:6]
figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3), layout="constrained")
left.plot(losses[0.02])
left.set(xlabel="step", ylabel="loss of one image", ylim=(0, None))
right.imshow(plots.grid(torch.cat([x, reconstruct(learned[0.02], x)]), columns=6), cmap="gray")
right.axis("off");
# %% [markdown]
# *A good place to pause.*
#
# ## What the latents keep, and what they lose
#
# The course ships a VAE that was trained the same way, for longer (`python -m course train mnist-vae`).
# Load it and look at what lies in the middle. In each row of the figure is a digit, its four latent maps
# of 7 × 7 (the means; dark is negative, bright is positive), and what the decoder makes of them. Can you
# still see the digit in a map? The code is a picture, small and strange. (A map that is the same grey
# for every digit says nothing. We come to that.)

# %%
vae, scale = load_vae()
x = test_images[[3, 2, 1, 18]]
with torch.no_grad():
    mean, logvar = vae.encode(x)
maps = [(mean[:, i : i + 1] / 3).repeat_interleave(4, 2).repeat_interleave(4, 3) for i in range(4)]

rows = torch.stack([x, *maps, reconstruct(vae, x)], dim=1).flatten(0, 1)
names = ["image", "latent 0", "latent 1", "latent 2", "latent 3", "decoded"]
plots.show(rows, names + [""] * 18, columns=6, size=1);
# %% [markdown]
# ### How much comes back
#
# The usual measure of a reconstruction is the **PSNR**, the peak signal-to-noise ratio in decibels: ten
# times the decimal logarithm of the largest possible squared difference over the mean squared error of
# the image. Pixels lie in [−1, 1], so the largest difference is 2:
#
# $$\text{PSNR} = 10\,\log_{10}\frac{2^2}{\frac1d\|x-\hat x\|^2}\ \text{dB}.$$
#
# By hand: if every pixel is off by 0.2, that is $10\log_{10}(4/0.04) = 20$ dB. Ten times smaller errors
# give 20 dB more. Each image has its own.
#
# ### Exercise: PSNR

# %% exercise="latent_diffusion.psnr" lines=2
# %%
psnr = check(psnr)

# %% [markdown]
# We measure 2,000 test digits. Each point of the histogram is a digit that the VAE never saw in
# training; look at where most of them are, and at the tail to the left. The dashed line is what an empty
# image would get on average. Who is in that tail?

# %%
digits = test_images[:2000]
mean, logvar = encode_all(vae, digits)
with torch.no_grad():
    back = torch.cat([vae.decode(z) for z in mean.split(200)]).clamp(-1, 1)
quality = psnr(digits, back)

figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.hist(quality, bins=60)
axis.axvline(psnr(digits, torch.full_like(digits, -1)).mean(), linestyle="--", color="grey")
axis.set(xlabel="PSNR in dB", ylabel="digits of 2,000");
# %% [markdown]
# ### Digits that it cannot draw
#
# Above are the eight of these digits with the lowest PSNR, in the middle what the VAE makes of them,
# below the difference (black is none). Search for what is missing or smoothed away: broken strokes are
# joined, speckles wiped off, gaps filled. Then look at the difference: it lies along the edges of
# *every* stroke.

# %%
worst = quality.argsort()[:8]
difference = (digits[worst] - back[worst]).abs() - 1
plots.show(torch.cat([digits[worst], back[worst], difference]),
           [f"{q:.0f} dB" for q in quality[worst]] + [""] * 16, columns=8, size=1);
# %% [markdown]
# That is the price of a small latent, and it must be paid in full: **the diffusion model can never draw
# what the decoder cannot**. It chooses latents; whatever has no latent will not appear.
#
# The decoder also knows nothing but digits. Give the pair something else: a digit in negative, one
# turned on its side, noise, a fine chequerboard. It returns the nearest thing it knows how to draw, with
# more or less success. What it has seen least of, it keeps worst.

# %%
fine = torch.where((torch.arange(28)[:, None] + torch.arange(28)) % 2 == 0, 1.0, -1.0)
noise = torch.randn(28, 28, generator=generator).clamp(-1, 1)
strange = torch.stack([test_images[0, 0], -test_images[0, 0], test_images[0, 0].T, noise, fine])[:, None]

back = reconstruct(vae, strange)
kinds = ["a digit", "negative", "transposed", "noise", "chequers"]
names = [f"{kind}\n{q:.0f} dB" for kind, q in zip(kinds, psnr(strange, back), strict=True)]
plots.show(torch.cat([strange, back]), names + [""] * 5, columns=5, size=1);
# %% [markdown]
# Stable Diffusion has the same limit at its own size: small faces and small print suffer in its VAE
# before any diffusion has begun. Its authors soften the price with a better loss. In place of squared
# error, which prefers a blur to a detail in the wrong place, they use a perceptual loss, and a
# discriminator that punishes blur.
#
# ### A smoother place than pixels
#
# What is gained? Walk in a straight line from one digit to another, above through pixels, below through
# latents (the means, decoded). In pixels the middle is a double exposure. In latents it should look more
# like something that a hand could have drawn, though not everywhere: nothing in the loss promised that.

# %%
def from_one_to_another(a: Tensor, b: Tensor, frames: int = 8) -> Tensor:
    return torch.stack([torch.lerp(a, b, k / (frames - 1)) for k in range(frames)])


a, b = test_images[4], test_images[9]
with torch.no_grad():
    (za, zb), _ = vae.encode(torch.stack([a, b]))
    through_latents = vae.decode(from_one_to_another(za, zb)).clamp(-1, 1)
plots.show(torch.cat([from_one_to_another(a, b), through_latents]), columns=8, size=0.9);
# %% [markdown]
# ## Posterior collapse
#
# The KL pulls each latent towards $m = 0$ and $v = 1$, where it is free. A latent stays away from there
# only as long as what it says saves more squared error than it costs. If the KL's weight is too large,
# no latent pays, and the encoder does the cheapest thing: it says nothing, for any image. The decoder,
# left without information, draws the *mean of all digits*. This is **posterior collapse**, and it is
# easily missed: the loss is finite, it fell, and the KL looks wonderful.
#
# How to see it? A latent says something if its mean is not the same for every image. Burda et al. (2016)
# call it **active** if the variance of $m$, over images, is above 0.01.
#
# ### Exercise: which latents are active

# %% exercise="latent_diffusion.active_latents" lines=1
# %%
active_latents = check(active_latents)

# %% [markdown]
# Now train two more VAEs as before, with a weight of 1 and of 30. Remember that the weight is
# $\sigma^2$, the error we forgive: the second is told that pixels are off by 5.5, in a range of 2. In
# the figure, the top row is the original, and below it are the reconstructions of the three VAEs, with
# the number of active latents of 196. The last row should be the same smudge for every digit.

# %%
for kl_weight in (1.0, 30.0):
    learned[kl_weight], losses[kl_weight] = train_vae(kl_weight)

x = test_images[:8]
rows, names = [x], ["original"]
for kl_weight, model in learned.items():
    active = int(active_latents(encode_all(model, test_images[:500])[0]).sum())
    rows.append(reconstruct(model, x))
    names.append(f"weight {kl_weight:g}\n{active} active")

figure = plots.show(torch.cat(rows), columns=8, size=0.8)
for axis, name in zip(figure.axes[::8], names, strict=True):
    axis.text(-0.15, 0.5, name, transform=axis.transAxes, ha="right", va="center")
# %% [markdown]
# And the shipped VAE? Instead of yes and no, we look at how much each of its latents says: the KL of
# each one, averaged over digits. (For that, treat every latent as an image of its own.) The four maps
# below are in nats. Look at the corners: nothing is ever written there, so there is nothing to say. And
# if a whole map is dark, the other three were enough. A few collapsed latents are no illness. They are
# the KL doing its work: it found out what is not needed.

# %%
mean, logvar = encode_all(vae, test_images[:1000])
each = kl_to_standard_normal(mean.reshape(-1, 1, 1, 1), logvar.reshape(-1, 1, 1, 1))
nats = each.reshape(mean.shape).mean(dim=0)

figure, axes = plt.subplots(1, 4, figsize=(7.6, 2.2), layout="constrained")
for axis, channel, active in zip(axes, nats, active_latents(mean), strict=True):
    shown = axis.imshow(channel, vmin=0, vmax=nats.max())
    axis.set_title(f"{int(active.sum())} of 49 active", fontsize=9)
    axis.axis("off")
figure.colorbar(shown, ax=axes, label="KL in nats");
# %% [markdown]
# ## Why latents are scaled, and by what
#
# Lesson 02 chose its schedule for data with a variance near 1. In
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$ the noise always has variance
# $1-\bar\alpha_t$, but the signal has $\bar\alpha_t$ *times the variance of the data*. If the data have
# standard deviation $s$, then
#
# $$\text{SNR}_t = s^2\;\frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad
# \log\text{SNR}_t = \log\frac{\bar\alpha_t}{1-\bar\alpha_t} + 2\log s .$$
#
# The whole curve moves up or down. Pixels come with $s \approx 0.6$. Latents come with whatever the
# encoder liked: the smaller the KL's weight, the less anybody holds them at size 1. Stable Diffusion's
# VAE was trained with a weight of about $10^{-6}$, and its latents have $s \approx 5.5$.
#
# What does that do? Ask for the $t$ at which signal and noise are equal, $\text{SNR} = 1$. For the
# cosine schedule (its small offset aside) $\bar\alpha = \cos^2(\frac\pi2\,\frac tT)$, so that
# $s^2\cot^2(\frac\pi2\,\frac tT) = 1$ and $t = \frac{2T}\pi\arctan s$: 500 for $s = 1$, but 886 for
# $s = 5.5$ and 126 for $s = 0.2$. Below are the three curves on the left. On the right is a latent
# noised at $t = 0, 100, \dots, 900$ and decoded (after division by its standard deviation
# $\sqrt{s^2\bar\alpha_t+1-\bar\alpha_t}$), with the same noise in each row. Follow the middle row from
# left to right first. Then see how long the digit survives above, and how early it is lost below.

# %%
alpha_bars = alpha_bars_from_betas(cosine_schedule())
widths = [5.5, 1.0, 0.2]
t = torch.arange(0, 1000, 100)
with torch.no_grad():
    z = scale * vae.encode(test_images[:1])[0].expand(len(t), -1, -1, -1)
    noise = torch.randn(z[:1].shape, generator=generator).expand_as(z)
    rows = []
    for s in widths:
        zt = q_sample(s * z, t, noise, alpha_bars)
        rows.append(vae.decode(zt / (s**2 * at(alpha_bars, t, zt) + 1 - at(alpha_bars, t, zt)).sqrt()))

figure, (left, right) = plt.subplots(1, 2, figsize=(9.4, 2.9), width_ratios=[1, 1.9], layout="constrained")
for s in widths:
    left.semilogy(s**2 * snr(alpha_bars), label=f"s = {s:g}")
left.axhline(1, color="grey", linewidth=0.8)
left.set(xlabel="t", ylabel="SNR", ylim=(1e-3, 1e4))
left.legend()
right.imshow(plots.grid(torch.cat(rows), columns=len(t)), cmap="gray")
right.set(xticks=[15 + 30 * i for i in range(10)], xticklabels=t.tolist(), xlabel="t")
right.set(yticks=[15, 45, 75], yticklabels=[f"s = {s:g}" for s in widths])
right.grid(False);
# %% [markdown]
# The steps that decide a picture are those where neither signal nor noise has won, say with an SNR
# between 0.1 and 10. With $t = \frac{2T}\pi\arctan(s/\sqrt{\text{SNR}})$ they are 61 % of all steps for
# $s = 1$, but only 30 % for $s = 5.5$ and 32 % for $s = 0.2$. Latents that are too wide waste the first
# half of the schedule on noise that hides nothing; latents that are too narrow drown at once, and the
# other two thirds of the steps see noise alone. Training draws its $t$ and the sampler spreads its fifty
# calls without knowing any of that. No error message will tell.
#
# The cure is one multiplication. LDM multiplies all latents by
#
# $$\texttt{scale} = \frac{1}{\text{standard deviation of all numbers in } z},$$
#
# one number for the whole model, measured once on latents *as they will be used*: drawn, not only their
# means. From then on the schedule, the loss and the network of lessons 02 to 04 find what they were made
# for. Stable Diffusion's famous constant 0.18215 is nothing but this, measured on its VAE:
# $1/0.18215 = 5.49$.
#
# ### Exercise: the scale

# %% exercise="latent_diffusion.latent_scale" lines=4
# %%
latent_scale = check(latent_scale)

# %% [markdown]
# We compute it for 10,000 training images, from a draw of each one's latents, and compare it with the
# number that is stored with the shipped VAE. (The recipe measured that one over all 60,000.)

# %%
mean, logvar = encode_all(vae, images[:10_000])
z = reparameterise(mean, logvar, normal_like(mean, generator))
print(f"std {z.std():.1f}, scale {latent_scale(z):.1f}; stored with the VAE: {scale:.1f}")
print(f"scaled latents have a standard deviation of {(scale * z).std():.1f}")

# %% [markdown]
# For our VAE the scale is so near 1 that one could forget it. That is no accident. Take any VAE,
# multiply its latents by $c$, and let the decoder divide by $c$. The reconstructions stay the same, but
# the KL does not: $m$ becomes $cm$, $v$ becomes $c^2v$, and for each latent
#
# $$\tfrac12\,\mathbb E\big[c^2(m^2+v) - 1 - \log v\big] - \log c, \qquad
# \frac{\partial}{\partial c} = c\;\mathbb E[m^2+v] - \frac1c = 0
# \quad\text{at}\quad c^2 = \frac{1}{\mathbb E[m^2+v]} .$$
#
# At the end of a good training no $c$ may be better than $c = 1$, so
# $\mathbb E[m^2 + v] = \mathbb E[z^2] = 1$ for every latent, *whatever the weight of the KL*. But the
# pull towards that end is the weight times the KL's slope. With $0.02$ our VAE gets there. With
# $10^{-6}$ the pull is so weak that training is over long before, and the latents keep the width that
# chance gave them. So: measure, and do not hope.
#
# The figure shows it for the shipped VAE, its KL with the latents stretched by $c$. The valley should
# lie near $c = 1$, and it is broad: being 20 % off costs each latent
# $\frac12(c^2-1)-\log c \approx 0.04$ nats, which makes 8 for all 196.

# %%
c = torch.logspace(-0.4, 0.4, 41)
some = slice(0, 500)
kl = torch.stack([kl_to_standard_normal(k * mean[some], logvar[some] + 2 * k.log()).mean() for k in c])

figure, axis = plt.subplots(figsize=(5.4, 2.8))
axis.semilogx(c, kl)
axis.axvline(1, color="grey", linewidth=0.8)
axis.set(xlabel="latents multiplied by c", ylabel="KL of an image, nats")
axis.set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
axis.minorticks_off();
# %% [markdown]
# <details><summary><b>Think:</b> why one number, and not one for each of the 196 latents, so that every
# single one gets variance 1?</summary>
#
# Where the KL's pull arrived, nothing would change: the argument above holds for each latent. Where it
# did not, the proportions are the encoder's choice. A latent that hardly varies carries little of the
# image. Blown up to variance 1, it would count in the diffusion model's loss as much as those that carry
# the digit. (Some later models do scale each *channel*, and shift it as well.)
# </details>
#
# ## A DDPM on the latents: lesson 04, unchanged
#
# Why do we need diffusion at all? A VAE is a generative model by itself: draw $z$ from
# $\mathcal N(0, I)$ and decode. The KL was there to make that possible. Let us see what it gives:

# %%
with torch.no_grad():
    from_prior = vae.decode(torch.randn(16, 4, 7, 7, generator=generator)).clamp(-1, 1)
plots.show(from_prior, columns=8, size=0.9);
# %% [markdown]
# Strokes, but no digits. The KL looks at one image at a time, and each image's $q(z\mid x)$ is far
# narrower than $\mathcal N(0, I)$ where it matters: with a small $\sigma^2$ it buys precision. All of
# them together do *not* fill the standard normal evenly. They lie on the latents' own manifold, as
# lesson 01 would say, and most of $\mathcal N(0, I)$ lies beside it. We could raise the KL's weight
# until they fill it, and pay with blur. LDM does the opposite. It keeps the KL small, so that the
# decoder is sharp, and lets a *diffusion model* learn where the latents really are.
#
# And that model is already written. Nothing in lessons 02 to 04 ever asked whether $x_0$ is an image.
# Write $z_0$ for the scaled latents:
#
# | | pixels | latents |
# |---|---|---|
# | $x_0$ | an image, (1, 28, 28) | `scale` · a draw of $q(z\mid x)$, (4, 7, 7) |
# | schedule, `q_sample`, `v_loss`, `train` | | the same |
# | network | `UNet(patch=2)` | `UNet(in_channels=4, patch=1)` |
# | sampler | `sample(…)` | `sample(…, clip=False)` |
# | at the end | | decode once |
#
# The images are encoded once, before training, and only `mean` and `logvar` are kept. Every step then
# draws fresh latents from them, which costs nothing and shows the network the whole cloud of an image
# instead of one point of it. (7 × 7 shrinks to 4 × 4, and lesson 03's UNet grows it back to the skip's
# size: that care pays now.)

# %%
def draw_latents(step: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    i = batch_indices(len(mean), 32, step)
    z0 = scale * reparameterise(mean[i], logvar[i], normal_like(mean[i], generator))
    t = torch.randint(1000, (len(z0),), generator=generator)
    return z0, t, normal_like(z0, generator)


torch.manual_seed(0)
state = TrainState.start(UNet(in_channels=4, channels=(16, 32), patch=1))
walk = train(state, draw_latents, lambda net, z0, t, eps: v_loss(net, z0, t, eps, alpha_bars), steps=300)
losses = torch.tensor([step.loss for step in walk])

# %% [markdown]
# How far can this loss fall? Suppose a latent is pure noise, $\mathcal N(0, 1)$, and knows nothing of
# the others. Then $x_t$ and $v$ are two mixtures of the independent normals $z_0$ and $\varepsilon$,
# with covariance $\sqrt{\bar\alpha}\sqrt{1-\bar\alpha} - \sqrt{1-\bar\alpha}\sqrt{\bar\alpha} = 0$:
# seeing $x_t$ says *nothing* about $v$. The best prediction is 0 and the loss is the variance of $v$,
# which is 1, at every $t$. So 1 is the loss of somebody who knows nothing, and whatever lies below 1 is
# structure that was found. Much cannot be found here. A draw from $q(z\mid x)$ contains fresh noise, and
# collapsed latents contain nothing else.
#
# In the figure the loss of each step is grey, and its mean over 25 steps is blue. It must start near 1
# (a quick test that the scale is right!) and then sink, slowly.

# %%
figure, axis = plt.subplots(figsize=(6.4, 2.6))
axis.plot(losses, color="lightgrey")
axis.plot(torch.arange(25, 301, 25), losses.reshape(-1, 25).mean(dim=1))
axis.set(xlabel="step", ylabel="loss", ylim=(0.85, 1.05));
# %% [markdown]
# ### Exercise: back to pixels
#
# The network knows latents that were multiplied by `scale`. The decoder does not. Undo it, decode, and
# clip the *image*.

# %% exercise="latent_diffusion.decode_latents" lines=1
# %%
decode_latents = check(decode_latents)

# %% [markdown]
# ### Exercise: draw digits
#
# Walk with lesson 04's `sample`, take the last of the walk, decode it. One thing must be said to
# `sample`: not to clip. Lesson 04 clipped $\hat x_0$ to [−1, 1] because pixels lie there. Latents of
# variance 1 do not.

# %% exercise="latent_diffusion.sample_latents" lines=3
# %%
sample_latents = check(sample_latents)

# %% [markdown]
# The course ships a latent DDPM as well (`python -m course train mnist-latent-ddpm`). Its card names the
# VAE that it belongs to, by its SHA-256: latents of another VAE would be a foreign language. Sixty-four
# digits in fifty steps:

# %%
network, vae, scale = load_latent_ddpm()
eps_model = as_eps_model(network, alpha_bars)
start = torch.randn(64, 4, 7, 7, generator=generator)

plots.grid(sample_latents(eps_model, start, alpha_bars, vae, scale), columns=8).resize((484, 484))

# %% [markdown]
# How does a digit come about in there? We decode the network's opinion $\hat z_0$ at every fifth step.
# Compare it with the strips of lesson 04. It begins with the same kind of smudge, here a mean of latents
# that was decoded. Watch how soon it is sharp: a latent that is still undecided already decodes to
# strokes.

# %%
xs = [start[:4], *sample(eps_model, start[:4], alpha_bars, clip=False)]
frames = []
for k in range(0, 50, 5):
    t = torch.full((4,), timesteps(1000, 50)[k])
    with torch.no_grad():
        z0_hat = predict_x0(xs[k], t, eps_model(xs[k], t), alpha_bars)
    frames.append(decode_latents(vae, z0_hat, scale))
plots.show(plots.strip([*frames, decode_latents(vae, xs[-1], scale)], frames=11), columns=11, size=0.75);
# %% [markdown]
# What do the mistakes look like? The first row is right. In the second, the walk was clipped to [−1, 1]:
# a clipped latent cannot say what a bold stroke says. In the third and the fourth, the latents were
# decoded at five times and at a fifth of their size. That is what happens with latents like Stable
# Diffusion's, when a factor of 5.5 is applied twice or forgotten. All of these run without an error.

# %%
*_, z0 = sample(eps_model, start[:8], alpha_bars, clip=False)
*_, clipped = sample(eps_model, start[:8], alpha_bars, clip=True)
rows = [(z0, scale), (clipped, scale), (z0, scale / 5), (z0, scale * 5)]
figure = plots.show(torch.cat([decode_latents(vae, z, s) for z, s in rows]), columns=8, size=0.8)
for axis, name in zip(figure.axes[::8], ["right", "clipped", "too large", "too small"], strict=True):
    axis.text(-0.15, 0.5, name, transform=axis.transAxes, ha="right", va="center")
# %% [markdown]
# ## What was saved, and what it cost
#
# **FLOPs.** One call of the two shipped networks on one digit, counted, and the decoder, which is called
# once for a whole walk:

# %%
pixel_network = load_weights(UNet(**card("mnist-ddpm")["config"]), "mnist-ddpm")
pixel_network = pixel_network.to(memory_format=torch.channels_last)
t = torch.zeros(1, dtype=torch.int64)
flops = {
    "pixel network": count_flops(lambda: pixel_network(torch.zeros(1, 1, 28, 28), t)),
    "latent network": count_flops(lambda: network(torch.zeros(1, 4, 7, 7), t)),
    "decoder": count_flops(lambda: vae.decode(torch.zeros(1, 4, 7, 7))),
}
for name, count in flops.items():
    print(f"{name:15} {count / 1e6:5.1f} million, {count / flops['pixel network']:.2f} of the pixel network")

# %% [markdown]
# **Seconds.** Fewer FLOPs are not always less time: small images leave a processor waiting between small
# jobs. So we measure as well, 32 digits in 10 steps. (Your numbers will differ. The README has this
# ratio measured with care.)

# %% tags=["nbval-ignore-output"]
import time


def seconds(work: Callable[[], object]) -> float:
    """The least time of three."""
    times = []
    for _ in range(3):
        before = time.process_time()
        work()
        times.append(time.process_time() - before)
    return min(times)


pixel_model = as_eps_model(pixel_network, alpha_bars)
noise = torch.randn(32, 1, 28, 28, generator=generator)
on_pixels = seconds(lambda: list(sample(pixel_model, noise, alpha_bars, steps=10)))
on_latents = seconds(lambda: sample_latents(eps_model, start[:32], alpha_bars, vae, scale, steps=10))
print(f"pixels {on_pixels:.2f} s, latents {on_latents:.2f} s: a ratio of {on_latents / on_pixels:.2f}")

# %% [markdown]
# **Quality.** The Fréchet distance of lesson 04, here in a small version: 256 digits against 4,000 of
# the training set. Three sets are compared. Real digits give the floor. Real digits that went *through
# the VAE* show what the decoder alone costs: a latent DDPM can hardly do better than that, however long
# it trains. Then come the samples. The numbers for $N = 1{,}000$ are made by
# `python -m tests.benchmarks latent-quality`, and those of a pixel and a latent DDPM that were trained for
# the same five CPU-minutes by `python -m tests.benchmarks latent-budget`.

# %% tags=["nbval-ignore-output"]
judge = load_judge()
real = judge_features(judge, images[:4000])
others = test_images[torch.randperm(len(test_images), generator=generator)[:256]]
drawn = sample_latents(
    eps_model, torch.randn(256, 4, 7, 7, generator=generator), alpha_bars, vae, scale, steps=25
)
for name, digits in {"real": others, "through the VAE": reconstruct(vae, others), "latent DDPM": drawn}.items():
    print(f"{name:16} {frechet_distance(judge_features(judge, digits), real):6.1f}")

# %% [markdown]
# For 28 × 28 pixels this is a fair deal, not a miracle: the VAE has to be trained first, and a digit has
# little detail to leave out. At 512 × 512 it is the other way round. Stable Diffusion's UNet would have
# 64 times as many positions to visit on pixels as on latents, at every single call.
#
# <details><summary><b>Think:</b> one VAE serves many diffusion models (Stable Diffusion 1.4 and 1.5,
# ControlNets, every fine-tuned variant). Why is that a convenience
# <em>and</em> a danger?</summary>
#
# A convenience, because latents are a common language: a ControlNet trained with one model fits its
# relatives, and a better decoder improves all of them without retraining. A danger for the same reason:
# whoever can attack the encoder attacks every model behind it. Methods that protect images against
# editing (lesson 12) often do just that. AtkPDM, which you will build there, asks what to do about
# models that have *no* VAE, and uses a foreign one to search in.
# </details>
#
# ## The same in `diffusers`
#
# `AutoencoderKL` is the class that holds the VAE of Stable Diffusion. Its encoder returns a
# `DiagonalGaussianDistribution`, made from the same two halves in the same order, means first. Its `kl`
# sums over the latents of each image, as ours does. Its `sample` is our `reparameterise`. Two
# differences are worth knowing. It clamps the log-variance to [−30, 20], so that an exponential can
# never overflow. And `scaling_factor` is a number in its config that the *pipelines* apply,
# `z * scaling_factor` after encoding and `z / scaling_factor` before decoding. Whoever calls
# `vae.encode` and `vae.decode` without a pipeline must do it; capstone 1 will.

# %%
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

with torch.no_grad():
    mean, logvar = vae.encode(test_images[:50])
theirs = DiagonalGaussianDistribution(torch.cat([mean, logvar], dim=1))
ours = kl_to_standard_normal(mean, logvar)
print("the same KL:", torch.allclose(ours, theirs.kl(), rtol=1e-4))

drawn = theirs.sample(torch.Generator().manual_seed(5))
eps = torch.randn(mean.shape, generator=torch.Generator().manual_seed(5))
print("the same draw:", torch.allclose(reparameterise(mean, logvar, eps), drawn, atol=1e-5))

# %% [markdown]
# ## Recap
# 1. Diffusion's cost grows with the number of positions, attention's with its square. A VAE gives a
#    smaller place to diffuse in.
# 2. $\log p(x) = \text{ELBO} + D_\text{KL}(q\,\|\,p(z\mid x))$. The loss is half the squared error,
#    *summed* over pixels, plus $\sigma^2$ times the KL, *summed* over latents; the mean is over the
#    batch.
# 3. $z = m + e^{\texttt{logvar}/2}\,\varepsilon$ lets gradients through a draw.
#    $D_\text{KL} = \frac12\sum(m^2 + v - 1 - \log v)$; too much of it, and the posterior collapses.
# 4. Latents are divided by their standard deviation, because the schedule's SNR assumes data of variance
#    1, and multiplied by it before decoding.
# 5. The rest is lessons 03 and 04 without a change, except that latents are not clipped. What the
#    decoder cannot draw will never be drawn.
#
# **What can go wrong.** A variance where the standard deviation belongs, in the draw. One term of the
# loss summed and the other averaged, which multiplies the KL's weight by hundreds. A collapsed VAE whose
# loss looks fine. Latents that are scaled in training and not scaled back in sampling, or twice. Latents
# clipped to [−1, 1]. A scale measured on means when draws are used. A latent model with the VAE of
# another training.
#
# **Read on.** Rombach et al., *High-Resolution Image Synthesis with Latent Diffusion Models* (CVPR 2022,
# arXiv 2112.10752), sections 3.1 and 3.2, and appendix G for the scale. Kingma & Welling, *Auto-Encoding
# Variational Bayes* (arXiv 1312.6114), and their *Introduction to Variational Autoencoders* (arXiv
# 1906.02691). Burda, Grosse & Salakhutdinov, *Importance Weighted Autoencoders* (arXiv 1509.00519), for
# active units. Dai & Wipf, *Diagnosing and Enhancing VAE Models* (arXiv 1903.05789), for the learned
# decoder variance, and for a second model on the latents. Podell et al., *SDXL* (arXiv 2307.01952),
# section 2.4, for how much a better autoencoder matters.
#
# **Next.** These models draw *some* digit. Lesson 06 begins to say which.
