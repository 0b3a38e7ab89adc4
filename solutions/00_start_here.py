# %% [markdown]
# # 00 · Start here
#
# **After this lesson you can**
# - write an answer, have it checked, and read what the check says;
# - turn an image into noise, with two numbers whose squares add up to 1;
# - say in a sentence what this course builds, and why it is hard.
#
# **Time:** about 10 minutes. **Needs:** Python, a little PyTorch (tensors and their shapes), and
# knowing what a variance is.

# %%
import math

import torch
from torch import Tensor

from course import plots
from course.checks import check, hint
from course.data import mnist

plots.set_style()

# %% [markdown]
# ## How a lesson works
#
# A lesson is a notebook that you run from top to bottom, with <kbd>Shift</kbd>+<kbd>Enter</kbd> for each
# cell. Now and then it leaves a function for you to write. Such an **exercise** is always the same
# three things in a row: the maths, a cell with the function's first line and its description, and a
# cell that checks what you wrote:
#
# ```python
# to_unit_range = check(to_unit_range)
# ```
#
# You cannot get stuck. The check hands back *your* function when it is right, and the course's own
# when it is not, so the cells after it always have one that works. You can leave an exercise open, go
# on reading, and come back.
#
# Before you write anything, let us see the three things a check can say. We play the learner, and the
# function is the first exercise below: it turns an image's bytes, from 0 to 255, into floats from
# −1 to 1.
#
# **Not done yet.** Every exercise begins as a function that only raises `NotImplementedError`.

# %%
def to_unit_range(pixels):
    raise NotImplementedError


to_unit_range = check(to_unit_range)

# %% [markdown]
# **Not right yet.** Here is a wrong answer, on purpose. Dividing by 255 is a good thought and a common
# one, and it gives numbers from 0 to 1. The check knows this mistake, so it answers in words.

# %%
def to_unit_range(pixels):
    return pixels.unsqueeze(1).float() / 255


to_unit_range = check(to_unit_range)

# %% [markdown]
# Mistakes that the check has not met before are shown, not named. You then get the first example on
# which your function and the course's differ, small enough to work through on paper. Read it as: *for
# these four pixels, the second value should have been −0.6.*

# %%
def to_unit_range(pixels):
    return pixels.unsqueeze(1).float() / 120 - 1


to_unit_range = check(to_unit_range)

# %% [markdown]
# When you want a nudge, ask for one. Each call of `hint` says a little more than the one before; it
# stops short of the answer.

# %%
hint("to_unit_range")

# %% [markdown]
# **Right** looks like what comes after the next exercise. Now it is your turn.
#
# ## Pixels as numbers
#
# MNIST is a collection of 70,000 handwritten digits, scanned in grey, 28 × 28 pixels each. On disk a
# pixel is a byte: 0 is black, 255 is white. For everything that follows, another scale is handier: **−1
# is black, 1 is white, and 0 is the grey in the middle**. Noise is centred on 0 and about as large as
# 1, and images that are to be mixed with it should be so too.
#
# Three pixels by hand. A straight line is fixed by two of them, black and white, and the middle must
# then come out as 0:
#
# $$0 \mapsto -1, \qquad 127.5 \mapsto 0, \qquad 255 \mapsto 1 .$$
#
# So one step of $1$ on the new scale is $127.5$ on the old, and the scale begins at $-1$ and not at 0.
#
# PyTorch also wants to know how many **channels** an image has, one for grey and three for colour, as
# an axis of its own. A batch of $n$ grey images has the shape `(n, 1, h, w)`.
#
# ### Exercise: from bytes to [−1, 1]
#
# Replace the line that raises `NotImplementedError`. The text in the quotes says what comes in and what
# must go out: shape, type and range. (Where it says `Raises …`, that is how the course's own version
# treats bad input. In this lesson the checks give you good input only. Later some also ask for an
# error where the description names one, and their message tells you when yours is missing.)

# %% exercise="start_here.to_unit_range" lines=1
# %%
to_unit_range = check(to_unit_range)

# %% [markdown]
# Here are ten digits through that function. Look at the two printed lines: same pictures, another scale.
# From the next cell on `mnist(...)` does this step for us.

# %%
images, labels = mnist("train")
pixels = torch.from_numpy(plots.to_uint8(images[:10])).squeeze(-1)  # bytes, as in the file
x0 = to_unit_range(pixels)

print("before:", tuple(pixels.shape), pixels.dtype, int(pixels.min()), "to", int(pixels.max()))
print("after: ", tuple(x0.shape), x0.dtype, x0.min().item(), "to", x0.max().item())
plots.show(x0, [str(label) for label in labels[:10].tolist()], size=0.8);

# %% [markdown]
# ## The easy direction: from an image to noise
#
# To turn an image into noise, mix noise into it, more and more. Write $x_0$ for the image and
# $\varepsilon$ ("epsilon") for the noise: a picture whose pixels are drawn independently from the normal
# distribution $\mathcal N(0, 1)$. How much of each?
#
# A cross-fade, $(1-a)\,x_0 + a\,\varepsilon$, is what a film editor would take. But look at what it does
# to the variance. Scaling a random number by $s$ scales its variance by $s^2$, and variances of
# independent numbers add up. If image and noise both have variance 1, the cross-fade has variance
#
# $$(1-a)^2 + a^2,$$
#
# which is 1 at both ends and only $\tfrac12$ in the middle. The picture would lose contrast half way
# and win it back, and a network that looks at it would see inputs whose size keeps changing.
#
# The cure is to share out the *variance* instead of the pixel values. Give the noise the share $a$, and
# leave the image $1-a$. The factors are then the roots of the shares:
#
# $$x = \sqrt{1-a}\;x_0 + \sqrt{a}\;\varepsilon, \qquad
# \operatorname{Var}(x) = (1-a)\cdot 1 + a\cdot 1 = 1 \quad\text{for every } a .$$
#
# By hand, for a white pixel $x_0 = 1$, a draw $\varepsilon = -0.5$, and the share $a = 0.36$:

# %%
a = 0.36
print("factors:", math.sqrt(1 - a), "and", math.sqrt(a))
print("mixed:  ", round(math.sqrt(1 - a) * 1 + math.sqrt(a) * -0.5, 2))

# %% [markdown]
# The factors are 0.8 and 0.6. They add up to more than 1; their *squares* add up to 1.
#
# ### Exercise: mix noise into images
#
# In code the share is called `amount`. The noise comes in as an argument, so that your function has no
# randomness of its own and gives the same result twice.

# %% exercise="start_here.mix_with_noise" lines=1
# %%
mix_with_noise = check(mix_with_noise)

# %% [markdown]
# Is the variance really kept? We take 100,000 random numbers of variance 1 for the image, as many for
# the noise, and measure.

# %%
generator = torch.Generator().manual_seed(0)
numbers, noise = torch.randn(2, 100_000, generator=generator)

for amount in [0.0, 0.25, 0.5, 0.75, 1.0]:
    fade = (1 - amount) * numbers + amount * noise
    mixed = mix_with_noise(numbers, noise, amount)
    print(f"amount {amount:4}:  cross-fade {fade.var():.1f}   yours {mixed.var():.1f}")

# %% [markdown]
# Now with a real digit. Look for the frame in which you can no longer tell which digit it was. (Where
# the noise goes beyond −1 or 1, the picture shows plain black or white.)

# %%
digit = images[7:8]
eps = torch.randn(digit.shape, generator=generator)
amounts = torch.linspace(0, 1, 10).tolist()
walk = [mix_with_noise(digit, eps, amount) for amount in amounts]

plots.show(torch.cat(walk), [f"{amount:.0%}" for amount in amounts],
           title="share of noise in the variance", size=0.9);

# %% [markdown]
# <details><summary><b>Think:</b> you could tell the digit with much more noise in it than you might have
# expected. Why?</summary>
#
# Because a digit is not 784 unrelated pixels. Its strokes are connected, so many pixels say the same
# thing, and your eye averages the noise away along them. You know what digits look like. That knowledge
# is exactly what a diffusion model has to learn, and lesson 01 measures how much there is to know.
# </details>
#
# ## The way back
#
# The same frames in the other order: out of pure noise comes a digit.

# %%
plots.show(torch.cat(walk[::-1]), [f"{amount:.0%}" for amount in amounts[::-1]],
           title="the same frames, backwards", size=0.9);

# %% [markdown]
# This one is a trick, of course: a film run backwards. We knew the digit and we knew the noise, and kept
# both. The real question is: given **only** the first frame, noise and nothing else, can a program walk to
# a digit that nobody has ever written?
#
# <details><summary><b>Think:</b> why not simply solve
# $x = \sqrt{1-a}\,x_0 + \sqrt a\,\varepsilon$ for $x_0$?</summary>
#
# You would need $\varepsilon$, and you are only given $x$. One equation, two unknowns. But suppose that
# a network had seen so many digits and so much noise that it could look at $x$ and *guess* $\varepsilon$.
# Then you could solve for $x_0$: roughly at first, better as the noise gets less. That guess is all that a
# diffusion model learns. Lesson 03 trains the network, and lesson 04 walks the way back with it.
# </details>
#
# Yang Song, who helped to invent these models, puts it in one sentence, which the lecture behind this
# course also quotes:
#
# > Creating noise from data is easy; creating data from noise is generative modeling.
#
# (It opens the paper of Song and others, 2021, listed below.) And since the word has come up: a
# **discriminative** model looks at an image $x$ and says what it shows, $p(y \mid x)$; a **generative** model
# has learnt what images are like, $p(x)$, so well that it can make new ones.
#
# ## What you will make
#
# In lessons 02 to 04 you write every part of a diffusion model. The cell below runs the finished one,
# whose weights come with the course. Each of these twenty pictures began as pure noise, and the network
# walked it back in 25 steps. Look closely, as a judge would: which of them would you take for a person's?

# %% tags=["nbval-ignore-output"]
from course.generate import generate

plots.show(generate("mnist-ddpm", n=20, steps=25, seed=0), size=0.8);

# %% [markdown]
# ## The map
#
# The course follows a lecture by Jia-Wei Liao. Its outline is *training and sampling*, then
# *controllability and applications*, and two pieces of research: *aesthetic QR code generation* and an
# *evasion attack*. Each part becomes lessons, and in each lesson you build something.
#
# | lesson | you build | part of the lecture |
# |---|---|---|
# | **00 start here** | a checked answer, and a noisy digit | outline |
# | **01 data manifold** | PCA, and a ruler for the dimension of a set of images | what generative models learn |
# | **02 forward process** | the way from data to noise, in one step and in one jump | adding noise to data |
# | **03 training** | a network that predicts the noise, its loss, its training loop | how to train a DDPM |
# | **04 sampling** | the way back: DDPM and DDIM | how a DDPM generates samples |
# | **05 latent diffusion** | a VAE, and diffusion in its small space | reducing the cost |
# | **06 classifier guidance** | a classifier that steers the way back | control |
# | **07 classifier-free guidance** | the same without a classifier | control |
# | **08 ControlNet** | a trained copy that follows a sketch | control |
# | **09 QR codes** | codes, scanners, and pictures hidden in codes | aesthetic QR codes |
# | **10 DiffQRCoder** | codes that are beautiful and can still be scanned | aesthetic QR codes |
# | **11 SDEdit** | editing an image by half destroying it | the threat |
# | **12 AtkPDM** | an image that resists such editing | the evasion attack |
# | **13 flow matching** | straight roads from noise to data | learning on |
#
# ## Recap
# 1. An exercise is the maths, a function to write, and a check; `hint` helps, and you cannot get stuck.
# 2. Images are `(n, 1, 28, 28)` floats: −1 is black, 1 is white.
# 3. Mixing with $\sqrt{1-a}$ and $\sqrt{a}$ shares out the variance, so that it stays 1.
# 4. From image to noise is easy and needs no learning; the way back is what this course is about.
# 5. A discriminative model names what it sees; a generative model can make it.
#
# **What can go wrong.** Computing with bytes, which wrap round at 256: turn them into floats first.
# Forgetting a root: variances add, standard deviations do not. Running cells out of order: when
# something is strange, choose *Restart kernel and run all cells*; your answers are kept.
#
# **Read on.** Y. Song and others, *Score-Based Generative Modeling through Stochastic Differential
# Equations* (arXiv 2011.13456), for the sentence and for what follows from it. From the lecture's own list
# of resources: Yang Song's talk
# [*Diffusion and Score-Based Generative Models*](https://youtu.be/wMmqCMwuM2Q), and Lilian Weng,
# [*What are Diffusion Models?*](https://lilianweng.github.io/posts/2021-07-11-diffusion-models/). The
# lecture's channel has its part on [diffusion models and flow
# matching](https://www.youtube.com/watch?v=lMNHTwFSGRY).
#
# **Next.** [Lesson 01](01_data_manifold.ipynb) asks what makes the way back possible at all: images are
# rare among all the pictures there could be, and not scattered.
