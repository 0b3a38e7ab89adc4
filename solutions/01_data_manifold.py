# %% [markdown]
# # 01 · The data manifold: images are rare, and not scattered
#
# **After this lesson you can**
# - say what the manifold assumption is, and what a generative model has to learn;
# - compress images with PCA, and say where a flat approximation must fail;
# - measure the dimension of a set of points with a ruler made of two distances, and know how far to
#   trust it.
#
# **Time:** about 45 minutes. **Needs:** lesson 00, PyTorch tensors, eigenvectors, and densities of
# random variables.

# %%
import math

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from course import plots
from course.checks import check, hint
from course.data import mnist

plots.set_style()
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## An image is a point
#
# Write the 784 pixels of a 28 × 28 image one after the other, and the image becomes a point in a space of
# 784 dimensions, $\mathbb R^{784}$. Every picture of that size is a point of this space, digits and
# everything else, and every point within the cube $[-1, 1]^{784}$ is a picture. With 256 levels of grey there
# are $256^{784} \approx 10^{1888}$ of them.
#
# What do they look like? Let us draw ten at random, and put ten digits below. Look at how alike the random
# ones are: you could go on drawing for the age of the universe and would never meet a digit.

# %%
images, labels = mnist("train")
x = images.flatten(1)  # (60000, 784): one point a row
anywhere = torch.rand(10, 1, 28, 28, generator=generator) * 2 - 1
plots.show(torch.cat([anywhere, images[:10]]), size=0.8);

# %% [markdown]
# So digits are a vanishingly small part of the cube. They are not scattered through it either. Write a 3 and
# lean it slowly to the right, or make the stroke a little thicker: at every moment it is still a 3. The
# images of digits hang together. You can walk among them, though only in a few directions, while the
# cube around them has 784.
#
# That is the **manifold assumption**: *natural high-dimensional data lie close to a non-linear surface of
# low dimension.* The space is $\mathbb R^n$, the surface is called the image manifold $M$, and "dimension" means
# the number of directions in which one can walk without leaving it.
#
# **Generative model learning** is then this task. Somebody gives us points of $M$, the training set. They were
# drawn from a distribution $p_\text{data}$ that nobody can write down, and that is all we are told. We look
# for a distribution $p_\theta$, one that a computer *can* draw from, that is as close to $p_\text{data}$ as
# possible. New images are then draws $x \sim p_\theta$.
#
# In this lesson we look at the surface before we try to hit it. Three questions: is it thin, is it flat,
# and what surrounds it?
#
# ## A manifold that fits on paper
#
# The circle is the smallest example with all the trouble in it. Its points have two coordinates,
# $(\cos\varphi, \sin\varphi)$, but one number, the angle $\varphi$, says where you are. So it is a
# **one-dimensional** set in a space of two dimensions. By hand, with two points on it and the point half
# way between them:

# %%
a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
middle = (a + b) / 2
for name, point in {"a": a, "b": b, "middle": middle}.items():
    print(f"{name:6}  {point.tolist()}   distance to the circle: {abs(point.norm() - 1):.2f}")

# %% [markdown]
# The middle of two points of the circle is not on the circle. That is what *non-linear* means here: **the set
# does not contain its own averages.**
#
# And what does a flat description make of it? The best one is the Gaussian with the same mean and the same
# covariance. In the figure, look at where the orange points are. Most of them are far from the circle, and
# many are in the empty middle, where there is no data at all.

# %%
angles = 2 * math.pi * torch.rand(400, generator=generator)
circle = torch.stack([angles.cos(), angles.sin()], dim=1)
gaussian = torch.randn(400, 2, generator=generator) @ torch.linalg.cholesky(circle.T.cov()).T

figure, axis = plt.subplots(figsize=(4.2, 3.6))
axis.scatter(*gaussian.T, s=8, color=plots.COLOURS[1], label="Gaussian, same mean and covariance")
axis.scatter(*circle.T, s=8, color=plots.COLOURS[0], label="data")
axis.plot(*torch.stack([a, middle, b]).T, "o-", color="black", markersize=4, label="two points, and their middle")
axis.set_aspect("equal")
axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), fontsize=8);
# %% [markdown]
# Keep this picture in mind. With images we cannot draw the circle, but everything you see here will be there.
#
# <details><summary><b>Think:</b> take one photograph and move it by any number of pixels, across and down.
# What is the dimension of the set of all these pictures? Is it flat?</summary>
#
# Two: how far across and how far down say which picture it is. And it is curved: the average of a picture
# and its shifted copy is a double exposure, and no shift of the picture looks like that.
# </details>
#
# ## The best flat surface: PCA
#
# Before we say that a flat description is not enough, we should see how far the best one goes. **Principal
# component analysis** finds the flat space of $k$ dimensions that comes nearest to the data.
#
# Let $m$ be the mean of the points, and let $u$ be a direction, $\|u\| = 1$. Along it, the points
# have the coordinates $u^\top(x_i - m)$, whose variance is
#
# $$\frac1n\sum_i \big(u^\top(x_i-m)\big)^2 = u^\top S\,u,
# \qquad S = \frac1n\sum_i (x_i-m)(x_i-m)^\top .$$
#
# Where is it largest, among all $u$ of length 1? With a Lagrange multiplier $\lambda$ for the constraint
# $u^\top u = 1$, the gradient of $u^\top S u - \lambda(u^\top u - 1)$ must vanish:
#
# $$2Su - 2\lambda u = 0 \quad\Longleftrightarrow\quad S u = \lambda u,
# \qquad\text{and then}\qquad u^\top S u = \lambda .$$
#
# So the candidates are the eigenvectors of the covariance matrix, and the eigenvalue *is* the variance along
# its eigenvector. The direction of largest variance is the eigenvector with the largest eigenvalue, the next one
# (at right angles to it) has the next eigenvalue, and so on.
#
# There is no need to form $S$. Put the centred points into the rows of a matrix $X$ and take its singular value
# decomposition $X = U\,\Sigma\,V^\top$. Then
#
# $$S = \tfrac1n X^\top X = V\,\tfrac{\Sigma^2}{n}\,V^\top,$$
#
# so the eigenvectors are the columns of $V$, which are the *rows of* $V^\top$, and they come sorted.
#
# Three points by hand: $(-2,-2)$, $(1, 2)$, $(4, 6)$. Their mean is $(1, 2)$. Less the mean, they are
# $(-3,-4)$, $(0, 0)$, $(3, 4)$: all on one line, whose direction of length 1 is $(0.6, 0.8)$. The direction
# $(-0.6,-0.8)$ is as good. A component's sign is arbitrary, and the check accepts either.
#
# ### Exercise: fit PCA
#
# If you would like a nudge, `hint("fit_pca")` in a cell of its own gives one, and more when called again.

# %% exercise="data_manifold.fit_pca" lines=3
# %%
fit_pca = check(fit_pca)

# %% [markdown]
# What are the directions in which digits vary most? We fit 300 components to the first 10,000 training images,
# and show the first ten as pictures. Light and dark mean "more" and "less" ink, and could as well be swapped.
# Look for what each one does to a digit: the first mostly trades a round 0 for an upright 1.

# %%
mean, components = fit_pca(x[:10_000], 300)
pictures = components[:10] / components[:10].abs().amax(dim=1, keepdim=True)
plots.show(pictures.reshape(-1, 1, 28, 28), [f"component {i + 1}" for i in range(10)], size=0.95);

# %% [markdown]
# ### Back from k numbers to an image
#
# The flat space consists of the points $m + C^\top z$: the mean, plus $k$ coordinates $z$ times the $k$ directions,
# which are the rows of $C$. Which of its points is nearest to a given $x$? Set the gradient of the squared
# distance to zero:
#
# $$\nabla_z\,\big\|x - m - C^\top z\big\|^2 = -2\,C\,(x - m - C^\top z) = 0 .$$
#
# The rows of $C$ are orthonormal, so $CC^\top = I$, and what is left is
#
# $$z = C\,(x-m), \qquad \hat x = m + C^\top C\,(x-m).$$
#
# By hand: the mean $(1, 1)$, one direction $(0.6, 0.8)$, the point $(2, 3)$. From the mean it is $(1, 2)$ away;
# its coordinate is $0.6\cdot1 + 0.8\cdot2 = 2.2$; so $\hat x = (1, 1) + 2.2\cdot(0.6, 0.8) = (2.32, 2.76)$. In code
# points are *rows*, and the two products are written the other way round: $(x - m)\,C^\top$, then times $C$.
#
# ### Exercise: reconstruct

# %% exercise="data_manifold.pca_reconstruct" lines=2
# %%
pca_reconstruct = check(pca_reconstruct)

# %% [markdown]
# Eight test digits, which PCA has not seen, through fewer and more components. Ask yourself at each row: how
# many numbers does it take until the digit is the *same* digit? Until it is sharp?

# %%
test_images, test_labels = mnist("test")
tests = test_images.flatten(1)

sizes = [2, 10, 30, 100, 300]
rows = [pca_reconstruct(tests[:8], mean, components[:k]) for k in sizes]
titles = [f"{k} numbers" if i == 0 else "" for k in [*sizes, 784] for i in range(8)]
plots.show(torch.cat([*rows, tests[:8]]).reshape(-1, 1, 28, 28), titles, columns=8, size=0.75);

# %% [markdown]
# Ten numbers are too few. With thirty most digits can be read, and with a hundred they are nearly right.
# Already this says that digits fill far less than 784 dimensions. In numbers: the share of the variance that a
# reconstruction misses, over 2,000 test images.

# %%
def missed(k: int) -> float:
    rest = tests[:2000] - pca_reconstruct(tests[:2000], mean, components[:k])
    return (rest.square().sum() / (tests[:2000] - mean).square().sum()).item()


shares = {k: missed(k) for k in [1, 2, 5, 10, 20, 43, 85, 150, 300]}
for k in [10, 43, 85, 150]:
    print(f"{k:3} components miss {shares[k]:.0%} of the variance")

figure, axis = plt.subplots(figsize=(5.6, 2.8))
axis.plot(shares.keys(), shares.values(), "o-", markersize=4)
axis.set(xlabel="k, the number of components", ylabel="share of variance missed", ylim=(0, 1));
# %% [markdown]
# To miss only about a tenth takes 85 components. Does that mean that the manifold of digits has
# 85 dimensions? No. It means that the flattest space *around* it has about 85. PCA said the same of the circle: it
# needs two components, though one number tells the points apart. A piece of paper is another example. Roll
# it up, and it needs three axes to lie in, but an ant on it still has only two directions to walk in.

# %%
from course.data_manifold import swiss_roll

roll = swiss_roll(2000, generator)
turns = torch.hypot(roll[:, 0], roll[:, 2])  # how far along the sheet: the ant's first coordinate
variances = torch.linalg.svdvals(roll - roll.mean(dim=0)).square()
print("shares of variance:", [f"{share:.0%}" for share in (variances / variances.sum()).tolist()])

figure = plt.figure(figsize=(4.6, 4))
axis = figure.add_subplot(projection="3d")
axis.scatter(*roll.T, c=turns, s=6, cmap="viridis")
axis.set(xticklabels=[], yticklabels=[], zticklabels=[])
axis.view_init(elev=12, azim=-75);
# %% [markdown]
# Three directions, all of about the same variance: PCA sees a solid block. (The colour is the first coordinate of
# the ant.) To find the *two*, we need a ruler that looks at what is near, and at nothing else.
#
# ## A ruler that only looks at neighbours
#
# The ruler that we build is **TwoNN**, by Facco, d'Errico, Rodriguez and Laio (2017). From each point it needs
# two distances: $r_1$ to the nearest other point, and $r_2$ to the second nearest. Four points on a line make
# it clear what is meant:

# %%
line = [0.0, 1.0, 3.0, 7.0]
for i, here in enumerate(line):
    others = sorted(abs(here - there) for j, there in enumerate(line) if j != i)
    print(f"from {here:.0f}:  r1 = {others[0]:.0f}   r2 = {others[1]:.0f}")

# %% [markdown]
# ### Exercise: two neighbours
#
# Now for many points at once. All distances between $n$ points are a table of $n \times n$ numbers, and
# `torch.cdist(x, x)` computes it; for 3,000 points that is 9 million distances, which is fine. Two things need
# care:
#
# - **A point is not its own neighbour.** The diagonal of the table is 0 and must not win.
# - **A copy is a neighbour.** Where a data set holds the same image twice, the distance 0 is right. So leave the
#   point out *by its place in the table*, and not by looking for zeros.
#
# There is a trap in it. For more than 25 points `cdist` takes a shortcut,
# $\|a-b\|^2 = \|a\|^2 + \|b\|^2 - 2\,a^\top b$. That is a difference of large numbers, and in float32 two copies then come out
# a little apart. In float64 (`x.double()`) the error is too small to matter. The course's own version, besides, uses
# the table only to *find* the neighbours and measures the two distances again by subtracting.

# %% exercise="data_manifold.nearest_two" lines=5
# %%
nearest_two = check(nearest_two)

# %% [markdown]
# ### From two distances to a dimension
#
# Why should two distances know the dimension? Because of how fast balls grow. A ball of radius $r$ in $d$
# dimensions has the volume $\omega_d\, r^d$ (with $\omega_2 = \pi$, $\omega_3 = \tfrac43\pi$). In many dimensions a
# slightly larger ball is *much* larger, so the second neighbour is found just beyond the first. In few dimensions
# it may be far off. The figure shows the plane: the first neighbour's disc, and the ring to the second.

# %%
plane = torch.rand(60, 2, generator=generator) * 2 - 1
plane[0] = 0
r1, r2 = nearest_two(plane)

figure, axis = plt.subplots(figsize=(3.6, 3.6))
axis.add_patch(plt.Circle((0, 0), r2[0].item(), color=plots.COLOURS[5], alpha=0.5))
axis.add_patch(plt.Circle((0, 0), r1[0].item(), color=plots.COLOURS[4]))
axis.scatter(*plane[1:].T, s=12, color="black")
axis.scatter(0, 0, s=30, color=plots.COLOURS[1])
axis.set(aspect="equal", title=f"r2 / r1 = {r2[0] / r1[0]:.1f}");
# %% [markdown]
# Now exactly, in four steps. Assume that around a point, out to its second neighbour, the data are spread
# with a constant density $\rho$ (points per unit of $d$-dimensional volume), each independently of the others.
#
# **1. The first ball.** The number of points in a region of volume $v$ is then Poisson with mean $\rho v$, so the
# region is empty with probability $e^{-\rho v}$. Let $v_1 = \omega_d\, r_1^d$ be the volume of the ball that reaches
# the first neighbour. It is larger than $v$ exactly when the ball of volume $v$ is empty:
#
# $$P(v_1 > v) = e^{-\rho v}: \qquad v_1 \text{ is exponential with rate } \rho .$$
#
# **2. The shell.** Let $v_2 = \omega_d\,(r_2^d - r_1^d)$ be the volume of the shell between the two neighbours. What
# happens outside the first ball is independent of what is inside, so by the same argument $v_2$ is
# exponential with rate $\rho$ too, and independent of $v_1$.
#
# **3. Their ratio.** We do not know $\rho$, but a ratio does not need it. For $s \ge 0$,
#
# $$P\Big(\frac{v_2}{v_1} \le s\Big) = \int_0^\infty \rho\,e^{-\rho v}\,\big(1 - e^{-\rho v s}\big)\,dv
# = 1 - \frac{1}{1+s} .$$
#
# **4. Back to distances.** With $\mu = r_2 / r_1 \ge 1$ the ratio is
# $v_2/v_1 = (r_2^d - r_1^d)/r_1^d = \mu^d - 1$. Therefore
#
# $$\boxed{\;F(\mu) = P\Big(\frac{r_2}{r_1} \le \mu\Big) = 1 - \frac{1}{1 + (\mu^d - 1)} = 1 - \mu^{-d}\;}$$
#
# The unknown density has cancelled, and so has $\omega_d$. What remains is a Pareto distribution whose exponent is the
# dimension. Take logarithms, and it becomes a straight line through the origin:
#
# $$-\log\big(1 - F(\mu)\big) = d\,\log\mu .$$
#
# So: measure $\mu$ at every point, sort, and put $F_i = i/n$, the share of points whose $\mu$ is no larger. Plot
# $Y_i = -\log(1-F_i)$ against $X_i = \log\mu_i$. **The slope is the dimension.** Two details, as in the paper:
#
# - The last point has $F = 1$, and the logarithm of 0 does not exist. Beyond that, the largest ratios come from
#   points out on their own, where "constant density" fails first. We leave out the largest 10 %.
# - The line goes through the origin, so its least-squares slope minimises $\sum(Y_i - dX_i)^2$. Setting the
#   derivative to zero gives $d = \sum X_iY_i\,\big/\sum X_i^2$.
#
# By hand, with the three ratios 1.2, 1.5 and 3, of which we keep two:

# %%
mu, n = [1.2, 1.5, 3.0], 3
X = [math.log(m) for m in mu[:2]]
Y = [-math.log(1 - i / n) for i in (1, 2)]
print("X:", [round(v, 2) for v in X], "  Y:", [round(v, 2) for v in Y])
print("d =", round(sum(p * q for p, q in zip(X, Y, strict=True)) / sum(p * p for p in X), 2))

# %% [markdown]
# ### Exercise: the TwoNN estimate
#
# One case is left: at a copy, $r_1 = 0$ and the ratio means nothing. Leave such points out before you
# count $n$.

# %% exercise="data_manifold.two_nn" lines=6
# %%
two_nn = check(two_nn)

# %% [markdown]
# <details><summary><b>Think:</b> why not maximum likelihood?</summary>
#
# It works as well. The density of $\mu$ is $d\,\mu^{-d-1}$, so the log-likelihood of $n$ independent ratios is
# $n\log d - (d+1)\sum_i\log\mu_i$. Its derivative is zero at
#
# $$\hat d = \frac{n}{\sum_i \log\mu_i},$$
#
# one line of code, and no point is left out. On data that obey the assumption the two are equally sharp: a
# standard error of about $d/\sqrt n$. The line is what the paper uses and what we use here. It has an advantage:
# you can *look* at it. Where the points bend away from a line, the assumption fails and you see it.
# </details>
#
# ## Is the ruler right?
#
# A ruler is tested on things whose length is known. We take Gaussians, spheres $S^d$ and the swiss roll, 2,000
# points each, and hide each set in 50 dimensions by turning it at random. Turning keeps all distances (the columns of
# `axes` below are orthonormal), so the ruler must not notice.

# %% inline="data_manifold.embed"
# %%
from course.data_manifold import sphere

known = {f"Gaussian, d = {d}": (torch.randn(2000, d, generator=generator), d) for d in (1, 2, 5, 10, 20)}
known |= {f"sphere, d = {d}": (sphere(2000, d, generator), d) for d in (1, 2, 5)}
known["swiss roll"] = (roll, 2)
ratios = {}
for name, (points, d) in known.items():
    r1, r2 = nearest_two(embed(points.double(), 50, generator))
    ratios[name] = (r2 / r1).sort().values
    print(f"{name:16}  true {d:2}   TwoNN {two_nn(r1, r2):5.2f}   maximum likelihood"
          f" {1 / ratios[name].log().mean():5.2f}")

# %% [markdown]
# Up to five dimensions it is right within about 6 per cent, and with other random points it would be off by as much
# in the other direction: that is what 2,000 points allow. The swiss roll gets its two, where PCA saw three. At ten the
# estimate is a little low, and at twenty clearly so. The reason is in the assumption. To
# fill twenty dimensions evenly takes far more than 2,000 points, so the second neighbour is so far away that the density
# is no longer constant on the way to it. **Read large estimates as "at least".**
#
# The figure shows the lines that were fitted. Look at two things: the slopes, and how straight the points lie in the
# 90 % that were kept (below the grey line).

# %%
figure, axis = plt.subplots(figsize=(6.6, 3.2), layout="constrained")
heights = -torch.log(1 - torch.arange(1, 2000) / 2000)
for i, name in enumerate(["sphere, d = 1", "swiss roll", "Gaussian, d = 5", "Gaussian, d = 20"]):
    slope, colour = two_nn(torch.ones(2000).double(), ratios[name]), plots.COLOURS[i]
    axis.plot(ratios[name][:-1].log(), heights, ".", markersize=2, color=colour)
    axis.axline((0, 0), slope=slope, color=colour, linewidth=1, label=name)
axis.axhline(-math.log(0.1), color="grey", linewidth=0.8)
axis.set(xlim=(0, 2), ylim=(0, 5), xlabel=r"$\log\mu$", ylabel=r"$-\log(1-F)$")
axis.legend(loc="center left", bbox_to_anchor=(1, 0.5));
# %% [markdown]
# ## How many dimensions has a digit?
#
# Now the real thing: 2,000 images of each digit, 2,000 of all digits, and two kinds of pictures for comparison.
#
# - **Shuffled pixels.** Each pixel is taken from another image, at the same place. Every single pixel then behaves
#   just as in MNIST, dark at the border and often light in the middle, but neighbouring pixels know nothing of one
#   another.
# - **Noise**, drawn from $\mathcal N(0, I)$. Its true dimension is 784.

# %%
def shuffle_each_pixel(x: Tensor) -> Tensor:
    order = torch.rand(x.shape, generator=generator).argsort(dim=0)
    return x.gather(0, order)


sets = {str(digit): x[labels == digit][:2000] for digit in range(10)}
sets["all"] = x[:2000]
sets["shuffled"] = shuffle_each_pixel(x[:2000])
sets["noise"] = torch.randn(2000, 784, generator=generator)
dimensions = {name: two_nn(*nearest_two(points)) for name, points in sets.items()}
print({name: round(d) for name, d in dimensions.items()})

# %%
figure, axis = plt.subplots(figsize=(7.6, 3))
bars = axis.bar(dimensions.keys(), dimensions.values(), color=[plots.COLOURS[0]] * 11 + plots.COLOURS[1:3])
axis.bar_label(bars, [f"{d:.0f}" for d in dimensions.values()])
axis.tick_params("x", labelrotation=30)
axis.set(ylabel="estimated dimension", yscale="log", ylim=(5, 400));
# %% [markdown]
# Between 11 and 15, out of 784. The 1, little more than a stroke, has the fewest. All digits together come out no
# higher than one of them: the same number of points is then spread ten times thinner, and a coarser look sees fewer
# directions. The shuffled pictures have the *same* pixels as "all" and come out almost nine times as high. So it is not
# the dark border that makes digits low-dimensional. It is how the pixels go together.
#
# <details><summary><b>Think:</b> noise has 784 dimensions by construction. Why does the ruler say about
# 160?</summary>
#
# For the reason that made it low at twenty. 2,000 points in 784 dimensions are next to nothing: they are all about
# equally far from each other, at a distance of $\sqrt{2\cdot784}\approx 40$, and the nearest is hardly nearer than the
# rest. On the way to the second neighbour the density changes enormously. "At least 160" is all that 2,000 points can
# say, and it is enough for the comparison.
#
# The same holds, more gently, for the digits. With more points the neighbours move closer and the estimate
# grows a little; other estimators, at other scales, give other numbers between about 7 and 15 for MNIST. A dimension
# measured from data always belongs to a scale.
# </details>
#
# ## What lies between two digits?
#
# The middle of two points of a circle is not on it. What is the middle of two digits? We average test images of
# different digits and look.

# %%
first, second = tests[:300], tests[300:600]
differ = test_labels[:300] != test_labels[300:600]
averages = ((first + second) / 2)[differ]
trio = torch.cat([first[differ][:9], averages[:9], second[differ][:9]])
plots.show(trio.reshape(-1, 1, 28, 28), columns=9, title="digits · their averages · digits", size=0.8);

# %% [markdown]
# Double exposures. You see at a glance that the middle row is not handwriting. Can we *measure* it? An obvious idea is
# the distance to the nearest training image. An idea as obvious is the distance to PCA's flat space. Both are about
# to mislead us:

# %%
noise = torch.randn(300, 784, generator=generator)
for name, points in {"digits": first, "averages": averages, "noise": noise}.items():
    nearest = torch.cdist(points, x[:3000]).amin(dim=1)
    residual = (points - pca_reconstruct(points, mean, components[:85])).norm(dim=1)
    print(f"{name:9} nearest of 3,000 images: {nearest.median():4.1f}    off PCA's flat space: {residual.median():4.1f}")

# %% [markdown]
# Noise is far from everything: it never was on the manifold, and either distance says so. But the averages? They are
# almost as near to a training image as real digits are, and *nearer* to the flat space. The second is no accident. A flat
# space contains the averages of its points, and averaging makes what sticks out of it smaller. A linear measure cannot see
# what is wrong with an average.
#
# And the first? With 3,000 images in some dozen dimensions, the data are still so sparse that even a real digit is a long way
# from its nearest neighbour. So let us not look at one distance. Let us look at how it *shrinks as the data grow*:
#
# - **On the manifold** the nearest of $n$ points comes arbitrarily close. The ball that holds one of $n$ points has
#   $n\,\rho\,\omega_d\,r^d \approx 1$, hence $r \propto n^{-1/d}$. On logarithmic axes that is a falling line with
#   the slope $-1/d$.
# - **Off the manifold** the distance can only fall until it reaches the distance to the manifold itself. There the curve
#   becomes level, however much data comes in.
#
# Now look at the right ends of the curves, where all 60,000 training images are in.

# %%
counts = [100, 300, 1000, 3000, 10_000, 30_000, 60_000]
shuffled = x[torch.randperm(len(x), generator=generator)]


def shrinking(points: Tensor) -> list[float]:
    distances = torch.cdist(points, shuffled)
    return [distances[:, :n].amin(dim=1).mean().item() for n in counts]


curves = {"digits": shrinking(first), "averages": shrinking(averages), "noise": shrinking(noise)}

# %%
figure, axis = plt.subplots(figsize=(5.6, 3.2))
for name, curve in curves.items():
    axis.loglog(counts, curve, "o-", markersize=4, label=name)
axis.set(xlabel="number of training images", ylabel="distance to the nearest", ylim=(7, 50))
axis.set_yticks([8, 10, 13, 20, 40], ["8", "10", "13", "20", "40"])
axis.minorticks_off()
axis.legend(loc="center right")

fall = math.log(curves["digits"][0] / curves["digits"][-1]) / math.log(counts[-1] / counts[0])
print(f"from 100 to 60,000 images: digits {curves['digits'][0]:.1f} -> {curves['digits'][-1]:.1f}, "
      f"averages {curves['averages'][0]:.1f} -> {curves['averages'][-1]:.1f}, "
      f"noise {curves['noise'][0]:.1f} -> {curves['noise'][-1]:.1f}")
print(f"slope of the digits' line: -1/{1 / fall:.0f}")

# %% [markdown]
# There it is. The digits' curve falls in a straight line and goes on falling. The averages begin *below* it, cross it,
# and are levelling off: the data come six hundred times as dense and hardly any nearer. Noise does not move at all. And
# the slope of the digits' line is a second, independent measurement of the dimension: it agrees with TwoNN.
#
# ### What does a classifier say?
#
# One could ask a network that recognises digits. The course ships one, which is right on more than 99 % of the test
# images. Before you read its answers, guess: how sure will it be about noise?

# %%
from course.metrics import load_judge

with torch.no_grad():
    for name, points in {"digits": first, "averages": averages, "noise": noise}.items():
        sure, answer = load_judge()(points.reshape(-1, 1, 28, 28)).softmax(dim=1).max(dim=1)
        favourite = (answer == answer.mode().values).float().mean()
        print(f"{name:9} median confidence {sure.median():.2f}   its favourite answer: {favourite:.0%} of the time")

# %% [markdown]
# It hesitates at averages. And about noise it is **certain**: all of it, it says, is one and the same digit. That is no
# bug in this network. A discriminative model was trained to tell digits apart, $p(y \mid x)$, and only ever *on* the manifold; nobody told it what to
# say elsewhere, and softmax must always choose something. To know what is an image at all, we need $p(x)$, and that is what a
# generative model is for.
#
# ## Why flat is not enough
#
# PCA does give us a generative model, the simplest there is. Along each component the data have some variance
# $\lambda_i$. Draw each coordinate from a normal distribution of that variance, and go back to an image:
#
# $$z_i \sim \mathcal N(0, \lambda_i), \qquad x = m + C^\top z .$$
#
# This $p_\theta$ is the Gaussian with the data's own mean and (on the flat space) the data's own covariance, the orange
# cloud in the figure of the circle. It can be drawn from at once. Look at what it draws, with 85 components.

# %%
spread = ((x[:10_000] - mean) @ components.T).std(dim=0)
z = torch.randn(20, 85, generator=generator) * spread[:85]
ghosts = mean + z @ components[:85]
plots.show(ghosts.reshape(-1, 1, 28, 28), title="draws from a Gaussian with the data's mean and covariance", size=0.8);

# %% [markdown]
# Ghosts. Bits of strokes are in the right places, grey haze is between them, and now and then there is a hint of a
# digit. Means and covariances are right, by construction, and the pictures are wrong: like the averages, they lie
# in the empty middle of a curved set. *Linear combinations of images are not images.*
#
# ## A bridge between noise and data
#
# Put together what we have found.
#
# - The data lie near a manifold of about a dozen dimensions, curved, in a space of 784. We cannot write it down.
# - Almost everything else in that space is noise. And $\mathcal N(0, I)$ is a distribution that we *can* draw from.
# - One linear map from noise to images gives ghosts.
#
# So we want a **non-linear map that carries noise to data**: points drawn from $\mathcal N(0, I)$ at one end, points of the
# manifold, $x \sim p_\theta \approx p_\text{data}$, at the other.
#
# $$\text{noise } \mathcal N(0, I) \;\xrightarrow{\quad\text{a bridge}\quad}\; \text{data } p_\text{data}$$
#
# That is the goal of diffusion models: *building a bridge between noise and data*. Their idea is to build it from
# hundreds of short steps, each of which need only move a point a little closer to where data are. The figure shows the two
# ends of a bridge for the circle, and between them the same mixture of data and noise that you wrote in lesson 00. Look at the
# way: from left to right nothing has to be learnt. From right to left is the rest of the course.

# %%
from course.start_here import mix_with_noise

cloud = torch.randn(400, 2, generator=generator)
figure, axes = plt.subplots(1, 5, figsize=(8.6, 2.1), sharex=True, sharey=True, layout="constrained")
for axis, amount in zip(axes, [0.0, 0.05, 0.2, 0.6, 1.0], strict=True):
    axis.scatter(*mix_with_noise(circle, cloud, amount).T, s=3)
    axis.set(aspect="equal", title=f"{amount:.0%} noise", xlim=(-3.2, 3.2), ylim=(-3.2, 3.2))
axes[0].set_ylabel("data")
axes[-1].yaxis.set_label_position("right")
axes[-1].set_ylabel("noise");
# %% [markdown]
# ## Beside the library
#
# PyTorch has PCA as well. `torch.pca_lowrank` finds the first components of large data quickly, with a randomised
# algorithm, and returns them as columns. Up to their signs they must be ours: the products of each pair have to be 1 or −1.

# %%
torch.manual_seed(0)
_, _, theirs = torch.pca_lowrank(x[:10_000], q=20, niter=8)
overlaps = (components[:10] * theirs[:, :10].T).sum(dim=1).abs()
print(f"ten components, smallest overlap with torch.pca_lowrank: {overlaps.min():.2f}")

# %% [markdown]
# ## Recap
# 1. An image is a point in $\mathbb R^{784}$; natural images lie near a curved surface of few dimensions.
# 2. PCA finds the best flat space: about 85 of 784 dimensions hold nine tenths of MNIST's variance.
# 3. TwoNN measures the surface itself: $\mu = r_2/r_1$ has $F(\mu) = 1-\mu^{-d}$, whatever the density. For MNIST, $d$ is
#    about a dozen.
# 4. Averages of images, and linear combinations in general, leave the manifold; noise never was on it.
# 5. A generative model carries something we can draw, noise, to the manifold. That takes a non-linear map: a bridge.
#
# **What can go wrong.** PCA without subtracting the mean. Counting a point as its own neighbour. Copies in the data, or
# coordinates rounded so coarsely that many distances tie: look at the line before you believe its slope. Reading an
# estimate of 160 as "160" and not as "at least". Trusting a pixel distance, or a classifier's confidence, to tell what is an
# image.
#
# **Read on.** Facco, d'Errico, Rodriguez & Laio, *Estimating the intrinsic dimension of datasets by a minimal
# neighborhood information* (Scientific Reports 7:12140, arXiv 1803.06992). Pope et al., *The Intrinsic Dimension of
# Images and Its Impact on Learning* (arXiv 2104.08894), who measure larger image sets. Fefferman, Mitter & Narayanan, *Testing the
# Manifold Hypothesis* (arXiv 1310.0425), for what can be proved. From the lecture's resources: Yang Song's talk
# [*Diffusion and Score-Based Generative Models*](https://youtu.be/wMmqCMwuM2Q) begins where this lesson ends.
#
# **Next.** [Lesson 02](02_forward_process.ipynb) builds the bridge from the side that is easy.
