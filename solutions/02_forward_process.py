# %% [markdown]
# # 02 · The forward process: from data to noise
#
# **After this lesson you can**
# - take one step of the forward process, and say why it scales the image down as it adds noise;
# - jump from a clean image to any noise level in one line, and prove that the jump is right;
# - choose a noise schedule, and read from it how much of the image is left at every step.
#
# **Time:** about 50 minutes. **Needs:** lessons 00 and 01, PyTorch tensors, and the mean and variance
# of a sum of independent random variables.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course import plots
from course.checks import check, hint
from course.data import mnist
from course.forward_process import at

plots.set_style()

# %% [markdown]
# ## A bridge that is easy to walk in one direction
#
# Lesson 01 ended with a gap. On one side are the data, crowded near a thin curved surface in a space
# of 784 dimensions. On the other side is pure noise $\mathcal N(0, I)$, which we can draw from
# whenever we like. A diffusion model is a bridge between the two.
#
# We build the bridge from the data's side, because that direction needs no learning at all. Take an
# image $x_0$ and add a little noise to get $x_1$. Add a little more to get $x_2$. After $T$ such
# steps, with $T = 1000$ say, nothing of the image is left:
#
# $$x_0 \;\to\; x_1 \;\to\; x_2 \;\to\; \cdots \;\to\; x_T \approx \text{noise}.$$
#
# This is the **forward process** (or *diffusion process*). It has no parameters and is never
# trained. The lessons after this one learn to walk back.
#
# ## One step, by hand
#
# How should one step look? The first idea is $x_t = x_{t-1} + \text{noise}$. Its trouble is that the
# variance then only ever grows. After many steps the pixels would be spread over a range that keeps
# widening, and a network would have to cope with inputs of every size.
#
# So we shrink the image a little before we add the noise. If $x_{t-1}$ has variance 1, and we scale
# it by $\sqrt{\alpha_t}$ with $\alpha_t$ just below 1, its variance becomes $\alpha_t$. That leaves
# room for noise of variance $1-\alpha_t$, and the sum has variance 1 again:
#
# $$x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{1-\alpha_t}\;\varepsilon, \qquad \varepsilon \sim
# \mathcal N(0, I).$$
#
# The same in the language of distributions, with the mean and the covariance side by side:
#
# $$q(x_t \mid x_{t-1}) = \mathcal N\big(x_t;\; \underbrace{\sqrt{\alpha_t}\,x_{t-1}}_{\text{mean}},
# \;\underbrace{(1-\alpha_t)\,I}_{\text{covariance}}\big).$$
#
# People also write $\beta_t = 1-\alpha_t$ for the **variance** of the noise added at step $t$.
#
# Three pixels are enough to try it. With $\alpha = 0.98$ the pixel keeps $\sqrt{0.98} \approx 0.99$
# of its value, and the noise is multiplied by $\sqrt{0.02} \approx 0.14$. Notice how much larger 0.14
# is than 0.02: forgetting this root is the most common mistake of this lesson.

# %%
alpha = 0.98
pixels = [1.0, 0.5, -1.0]
draws = [0.3, -1.2, 0.7]  # three numbers as a normal distribution might give them

for x_prev, eps in zip(pixels, draws, strict=True):
    x_next = alpha**0.5 * x_prev + (1 - alpha) ** 0.5 * eps
    print(f"{x_prev:5.2f}  ->  0.99 * {x_prev:5.2f} + 0.14 * {eps:5.2f}  =  {x_next:5.2f}")

# %% [markdown]
# ## Images, and a step number for each
#
# Now the same for a batch of images. Two conventions hold throughout the course:
#
# - Images are tensors `(b, c, h, w)` with values in [−1, 1].
# - **Step numbers count from 0 in code.** Papers write $t = 1, \dots, T$; a Python index runs
#   `t = 0, …, T − 1`. So `betas[0]` is the paper's $\beta_1$, and step 0 turns $x_0$ into the first
#   noisy image. There is one `t` per image, a tensor `(b,)` of type `int64`.
#
# `betas[t]` then has shape `(b,)`, and the images `(b, c, h, w)`. Multiplying the two does not do
# what you want: broadcasting lines shapes up from the *right*, so the batch axis would meet the
# image's columns. The helper `at(betas, t, x)` looks each image's value up and shapes it
# `(b, 1, 1, 1)`.

# %%
images, labels = mnist("train")
x0 = images[[1, 3, 5, 7]]
betas = torch.tensor([0.02, 0.1, 0.5])
t = torch.tensor([0, 0, 1, 2])

print("images:", tuple(x0.shape), "   betas[t]:", tuple(betas[t].shape))
print("at(betas, t, x0):", tuple(at(betas, t, x0).shape),
      [round(beta, 2) for beta in at(betas, t, x0).flatten().tolist()])

# %% [markdown]
# ### Exercise: one step
#
# Write the step $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\;\varepsilon$ for a batch. The noise
# comes in as an argument, so that the function has no randomness of its own and can be checked.

# %% exercise="forward_process.forward_step" lines=2
# %%
forward_step = check(forward_step)

# %% [markdown]
# Stuck? `hint(forward_step)` says a little more each time you call it.
#
# Let us walk: the same digit through 250 steps, each with $\beta = 0.02$. Look for two things. The
# digit fades without a sudden end, and the picture as a whole does not get brighter or darker.

# %%
generator = torch.Generator().manual_seed(0)
betas = torch.full((250,), 0.02)
x = x0[:1]
walk = [x]
for step in range(250):
    eps = torch.randn(x.shape, generator=generator)
    x = forward_step(x, torch.tensor([step]), eps, betas)
    walk.append(x)

steps_shown = [0, 10, 25, 50, 75, 100, 150, 200, 250]
plots.show(torch.cat([walk[s] for s in steps_shown]), [f"after {s}" for s in steps_shown]);
# %% [markdown]
# Why does the walk end in $\mathcal N(0, I)$ and nowhere else? Follow one pixel's mean and variance.
# Each step multiplies the mean by $\sqrt\alpha$, so it goes to 0. And if the variance is $v$, the
# next one is $\alpha v + (1-\alpha)$. This pulls $v$ to 1 from either side: the distance
# $v - 1$ is multiplied by $\alpha$ each time. The figure shows it for three starting points, against
# the sum without shrinking.

# %%
v_start, steps = torch.tensor([0.0, 0.5, 2.0]), torch.arange(251)
shrinking = 1 + (v_start[:, None] - 1) * 0.98**steps
growing = v_start[:, None] + 0.02 * steps

figure, axis = plt.subplots()
axis.plot(steps, shrinking.T, color=plots.COLOURS[0])
axis.plot(steps, growing.T, color=plots.COLOURS[1], linestyle="--")
axis.set(xlabel="steps", ylabel="a pixel's variance", ylim=(0, 4))
axis.legend([axis.lines[0], axis.lines[3]], ["shrink, then add noise", "only add noise"]);
# %% [markdown]
# <details><summary><b>Think:</b> MNIST's pixels do not have variance 1. Does it matter?</summary>
#
# Not for where the walk ends: the figure shows every starting variance going to 1. It matters a
# little for the reading of "how much signal is left", because the signal's own variance is not 1.
# Scaling data to [−1, 1] is close enough in practice. Lesson 05 meets data (the latents of a VAE)
# whose variance is so far from 1 that they are rescaled first.
# </details>
#
# ## The closed form: all steps in one jump
#
# Training will need $x_t$ for random $t$, thousands of times. Walking there step by step would take
# up to 1000 operations each. Fortunately the steps collapse into one. Write out two of them:
#
# $$\begin{aligned}
# x_2 &= \sqrt{\alpha_2}\,x_1 + \sqrt{1-\alpha_2}\,\varepsilon_2 \\
#     &= \sqrt{\alpha_2}\big(\sqrt{\alpha_1}\,x_0 + \sqrt{1-\alpha_1}\,\varepsilon_1\big)
#        + \sqrt{1-\alpha_2}\,\varepsilon_2 \\
#     &= \sqrt{\alpha_1\alpha_2}\,x_0
#        + \underbrace{\sqrt{\alpha_2(1-\alpha_1)}\,\varepsilon_1 + \sqrt{1-\alpha_2}\,\varepsilon_2}
#        _{\text{two independent normal variables}}.
# \end{aligned}$$
#
# The sum of two independent normal variables is normal, and its variance is the sum of theirs:
#
# $$\alpha_2(1-\alpha_1) + (1-\alpha_2) = 1 - \alpha_1\alpha_2.$$
#
# So two steps are the same as one step with $\alpha_1\alpha_2$ in place of $\alpha$. Nothing in the
# argument depended on there being two: if the first $t-1$ steps amount to one with the product
# $\bar\alpha_{t-1}$, then the same three lines, with $\bar\alpha_{t-1}$ for $\alpha_1$ and $\alpha_t$
# for $\alpha_2$, show that $t$ steps amount to one with $\bar\alpha_t = \bar\alpha_{t-1}\alpha_t$. With
#
# $$\bar\alpha_t = \alpha_1\alpha_2\cdots\alpha_t = \prod_{i=1}^{t}(1-\beta_i)$$
#
# we have the formula that the whole course stands on:
#
# $$\boxed{\;x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\varepsilon, \qquad
# q(x_t \mid x_0) = \mathcal N\big(\sqrt{\bar\alpha_t}\,x_0,\; (1-\bar\alpha_t) I\big).\;}$$
#
# Read $\bar\alpha_t$ ("alpha bar") as **the share of the variance that is still signal**. It starts
# near 1 and falls to almost 0.
#
# ### Exercise: $\bar\alpha$ from $\beta$
#
# The function also refuses values that cannot be a schedule. A $\beta$ of 1 would wipe the image out
# in one step, and nothing could be divided by $\bar\alpha = 0$ afterwards.

# %% exercise="forward_process.alpha_bars_from_betas" lines=3
# %%
alpha_bars_from_betas = check(alpha_bars_from_betas)

# %% [markdown]
# ### Exercise: the jump
#
# The closed form for a batch, each image at its own `t`. In the literature this function is called
# `q_sample`, because it draws a sample of $q(x_t \mid x_0)$.

# %% exercise="forward_process.q_sample" lines=2
# %%
q_sample = check(q_sample)

# %% [markdown]
# ### Are the walk and the jump really the same?
#
# They are not the same *picture*: they use different noise. They are the same *distribution*. So we
# compare distributions. Take one image, send 4,000 copies of it through 20 single steps, send 4,000
# other copies through the jump, and compare the mean and the standard deviation of every pixel. If
# the algebra is right, all points of both figures lie on the diagonal, up to the noise of 4,000 draws.

# %%
betas = torch.linspace(0.005, 0.06, 20)
alpha_bars = alpha_bars_from_betas(betas)
small = torch.nn.functional.avg_pool2d(images[7:8], 4)  # 7 × 7, so that the walk is quick
copies = small.expand(4000, -1, -1, -1)

walked = copies
for step in range(20):
    eps = torch.randn(walked.shape, generator=generator)
    walked = forward_step(walked, torch.full((4000,), step), eps, betas)
jumped = q_sample(copies, torch.full((4000,), 19), torch.randn(copies.shape, generator=generator),
                  alpha_bars)

# %%
figure, axes = plt.subplots(1, 2, figsize=(7.2, 3.2), layout="constrained")
for axis, name, measure in zip(axes, ["mean", "standard deviation"], [torch.mean, torch.std],
                               strict=True):
    by_walk, by_jump = measure(walked, dim=0).flatten(), measure(jumped, dim=0).flatten()
    axis.scatter(by_jump, by_walk, s=14)
    axis.axline((by_jump.mean(), by_jump.mean()), slope=1, color="grey", linewidth=0.8)
    axis.set(title=f"{name} of each pixel", xlabel="one jump", ylabel="20 steps")
expected = (1 - alpha_bars[-1]).sqrt()
print(f"standard deviation that the closed form promises: {expected:.2f}")
print(
    f"measured, 20 steps: {walked.std(dim=0).mean():.2f}   one jump: {jumped.std(dim=0).mean():.2f}"
)

# %% [markdown]
# The points of the second figure look like a shapeless cloud. Read its axes: the cloud is a few
# hundredths wide. Every pixel has the *same* standard deviation $\sqrt{1-\bar\alpha_t}$, whatever its
# value, and what you see is only the uncertainty of 4,000 draws.
#
# ## Schedules: how fast should the image fade?
#
# A **schedule** is the choice of $\beta_1, \dots, \beta_T$. The closed form turns it into the curve
# $\bar\alpha_t$, and that curve is what matters: it says how much of the network's training is spent
# on almost clean, half noisy and almost lost images.
#
# ### Exercise: the linear schedule
#
# The DDPM paper lets $\beta_t$ rise in a straight line from $10^{-4}$ to $0.02$. Its first step keeps
# the factor $\sqrt{0.9999}$ of the image and its last the factor $\sqrt{0.98}$, the one you computed
# by hand above.

# %% exercise="forward_process.linear_schedule" lines=1
# %%
linear_schedule = check(linear_schedule)

# %% [markdown]
# ### Exercise: the cosine schedule
#
# For small images the linear schedule destroys too early: for the last 400 of its 1000 steps there is
# next to nothing left to see, and training on them teaches next to nothing. Nichol and Dhariwal (2021)
# went the other way round. They *chose* the curve $\bar\alpha_t$, and computed the $\beta_t$ that
# produce it. With time $u = t/T$ running from 0 to 1:
#
# $$f(u) = \cos^2\!\left(\frac{u+s}{1+s}\cdot\frac{\pi}{2}\right), \qquad
# \bar\alpha = \frac{f(u)}{f(0)}, \qquad
# \beta_t = 1 - \frac{f\big((t+1)/T\big)}{f\big(t/T\big)} \quad (t = 0, \dots, T-1).$$
#
# The last formula is $\beta = 1 - \alpha$ with $\alpha = \bar\alpha_{\text{after}} /
# \bar\alpha_{\text{before}}$; the $f(0)$ cancels. Two details carry weight:
#
# - The offset $s = 0.008$ keeps the first $\beta$ from being too tiny to notice.
# - $f(1) = 0$, so the last $\beta$ would be exactly 1. It is clipped at 0.999.
#
# Compute in `float64`: near $u = 1$ the formula divides very small numbers by each other.

# %% exercise="forward_process.cosine_schedule" lines=4
# %%
cosine_schedule = check(cosine_schedule)

# %% [markdown]
# Compare the two. In the left figure the cosine's $\beta$ shoots up at the end, which looks alarming.
# The right figure is the one to read: there the cosine schedule fades *evenly*, while the linear one
# is below 5 % (the grey line) for almost the whole second half.

# %%
schedules = {"linear": linear_schedule(), "cosine": cosine_schedule()}
curves = {name: alpha_bars_from_betas(betas) for name, betas in schedules.items()}

figure, (left, right) = plt.subplots(1, 2, figsize=(7.6, 3), layout="constrained")
for name in schedules:
    left.plot(schedules[name], label=name)
    right.plot(curves[name], label=name)
left.set(xlabel="t", ylabel=r"$\beta_t$", ylim=(0, 0.1))
right.set(xlabel="t", ylabel=r"$\bar\alpha_t$, the share of signal")
right.axhline(0.05, color="grey", linewidth=0.8)
right.legend();
# %%
for name, curve in curves.items():
    below = int((curve < 0.05).nonzero()[0])
    print(f"{name:7} first t with less than 5 % signal: {below}   last share: {curve[-1]:.0e}")

# %% [markdown]
# The same in pictures: one digit, with one noise, under both schedules at the same ten values of $t$.
# Count in how many frames of each row you can still tell the digit.

# %%
ten = torch.linspace(0, 999, 10).long()
digit = images[7:8].expand(10, -1, -1, -1)
noise = torch.randn(1, 1, 28, 28, generator=generator).expand(10, -1, -1, -1)
rows = [q_sample(digit, ten, noise, curve) for curve in curves.values()]
plots.show(torch.cat(rows), [f"t = {t}" for t in ten.tolist()] * 2,
           title="above: linear · below: cosine", size=0.85);

# %% [markdown]
# ### Move through time yourself
#
# In JupyterLab, VS Code and Colab the next cell shows a slider. (On GitHub there is none, and the strip
# above tells the same story.) Drag it, and find the $t$ at which *you* can no longer name the digit.

# %% tags=["nbval-ignore-output"]
import ipywidgets


def show_step(t: int, schedule: str) -> None:
    xt = q_sample(digit[:1], torch.tensor([t]), noise[:1], curves[schedule])
    plots.show(xt, [f"t = {t}, signal {curves[schedule][t]:.1%}"], size=2.2)
    plt.show()


ipywidgets.interact(
    show_step,
    t=ipywidgets.IntSlider(value=300, min=0, max=999, step=1, continuous_update=False),
    schedule=list(curves),
);

# %% [markdown]
# ## One number for "how noisy": the SNR
#
# Two schedules can be compared without any $t$ at all. What matters to a network is the **signal-to-
# noise ratio**: the variance of the signal part of $x_t$ over the variance of its noise part,
#
# $$\mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t}.$$
#
# It is large for clean images, 1 where signal and noise are even, and goes to 0. Later lessons meet it
# again: as the weight that turns one loss into another (lesson 03), and as the reason why "the same
# $t$" means different things at different image sizes (lesson 11).
#
# ### Exercise: the SNR

# %% exercise="forward_process.snr" lines=1
# %%
snr = check(snr)

# %% [markdown]
# On a logarithmic axis, look where each curve crosses 1. Up to there the image has the upper hand; the
# linear schedule gives only a quarter of its steps to that half of the story.

# %%
figure, axis = plt.subplots()
for name, curve in curves.items():
    axis.semilogy(snr(curve), label=name)
    print(f"{name:7} SNR falls below 1 at t = {int((snr(curve) < 1).nonzero()[0])}")
axis.axhline(1, color="grey", linewidth=0.8)
axis.set(xlabel="t", ylabel="SNR", ylim=(1e-6, 1e5))
axis.legend();
# %% [markdown]
# <details><summary><b>Think:</b> the cosine schedule's last share of signal is about 2·10⁻⁹. Why is a
# value that small a problem for a network that predicts the noise?</summary>
#
# From $x_t$ and the noise one can solve the closed form for the image:
# $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\varepsilon)/\sqrt{\bar\alpha_t}$. At the last step this divides by
# $\sqrt{2\cdot10^{-9}} \approx 5\cdot10^{-5}$. An error of 0.01 in the predicted noise becomes an error
# of 200 in the predicted image. Lessons 03 and 04 come back to this, with two remedies: predicting
# something else, and clipping.
# </details>
#
# ## Beside the library
#
# The `diffusers` library calls the jump `add_noise` and keeps the schedule in a *scheduler* object. With
# the same images, steps and noise, both of ours must agree with it.

# %%
from diffusers import DDPMScheduler

x0 = images[:8]
t = torch.randint(1000, (8,), generator=generator)
eps = torch.randn(x0.shape, generator=generator)
for name, theirs in {"linear": "linear", "cosine": "squaredcos_cap_v2"}.items():
    scheduler = DDPMScheduler(num_train_timesteps=1000, beta_schedule=theirs)
    gap = (scheduler.add_noise(x0, eps, t) - q_sample(x0, t, eps, curves[name])).abs().max()
    print(f"{name}: agrees with diffusers to 1e-5: {bool(gap < 1e-5)}")

# %% [markdown]
# ## Recap
# 1. The forward process turns data into noise in small steps; it has nothing to learn.
# 2. One step shrinks by $\sqrt{\alpha_t}$ and adds noise of variance $1-\alpha_t$, so variance 1 stays 1.
# 3. The steps collapse: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\varepsilon$, with
#    $\bar\alpha_t$ the product of the $\alpha$.
# 4. A schedule is best read as its curve $\bar\alpha_t$; the cosine schedule spends its steps evenly.
# 5. SNR $= \bar\alpha_t/(1-\bar\alpha_t)$ says how noisy an image is, whatever the schedule.
#
# **What can go wrong.** β where √β belongs, or ᾱ for √ᾱ: the pictures look only slightly off, and
# training quietly gets worse. A `(b,)` tensor that meets `(b, c, h, w)`. Papers' $t = 1$ is the code's
# `t = 0`. A cosine schedule without its clip.
#
# **Read on.** Ho, Jain & Abbeel, *Denoising Diffusion Probabilistic Models* (arXiv 2006.11239),
# section 2. Nichol & Dhariwal, *Improved Denoising Diffusion Probabilistic Models* (arXiv 2102.09672),
# section 3.2. Kingma et al., *Variational Diffusion Models* (arXiv 2107.00630) builds everything on the
# SNR. Lilian Weng, *What are Diffusion Models?* (lilianweng.github.io) covers the same ground at speed.
#
# **Next.** Lesson 03 trains a network to look at $x_t$ and say which noise is in it.
