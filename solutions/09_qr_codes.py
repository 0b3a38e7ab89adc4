# %% [markdown]
# # 09 · QR codes, and how to draw in them
#
# **After this lesson you can**
# - take a QR code apart by hand: modules, masks, codewords, and the Reed–Solomon arithmetic that repairs
#   it;
# - follow a scanner from the photo to the text, and say how much of a code's error budget is spent;
# - make codes that look like something, by the three traditional methods: **Qart**, which chooses a code's
#   own bits, **halftone** dots around its modules, and **ArtCoder**-style optimisation of pixels.
#
# **Time:** about 2½ hours. **Needs:** PyTorch, and knowing what a linear combination is. No diffusion
# model appears here: lesson 10 will join one to what you build now.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from course import plots, qr_codes, scenery
from course.checks import check, hint
from course.qr_codes.elimination import Span, eliminate, refine, solve
from course.qr_codes.encoding import (
    PADDING, blocks, capacity, draw, pad_codewords, send, sent_places, text_bits, to_bits, to_bytes
)
from course.qr_codes.halftones import dither
from course.qr_codes.layout import data_path, function_mask, mask_pattern, read_format, version_of
from course.qr_codes.messages import padding_message
from course.qr_codes.pixels import sampled
from course.qr_codes.reed_solomon import PRODUCTS, REDUCTION, syndromes
from course.qr_codes.scanning import LUMA, local_mean

plots.set_style()

# %% [markdown]
# ## What is in the square
#
# A QR code is a square of **modules**, small squares that are dark or light. In this course a code is a
# boolean tensor `code` of shape `(n, n)`, True where a module is dark. Codes come in 40 sizes, called
# **versions**: version 1 has 21 modules along a side, and each version has four more, so
# $n = 17 + 4v$.
#
# The library [`qrcode`](https://github.com/lincolnloop/python-qrcode) makes them, and
# `course.qr_codes.make_code` asks it to. `render` turns a code into an image, which puts a white
# **quiet zone** around it. Here is the word *diffusion*.

# %%
code = qr_codes.make_code("diffusion", version=2, level="M", mask=3)
target = qr_codes.render(code, module_size=8, margin=4)
print(f"code: {tuple(code.shape)}, {code.dtype}; as an image: {tuple(target.shape)}")

# %% [markdown]
# Not all of these modules carry data. Below, on the right, are the ones that are the same in every code of
# this version, or that say how to read it. All of them together are the **function patterns**:
#
# - three **finders** in the corners, 7 × 7, each with a white separator;
# - the **timing** row and column between them, dark and light by turns, by which a scanner counts;
# - a smaller **alignment** pattern (none in version 1, more in large ones), by which it straightens;
# - the **format information** beside the finders: which error correction, which mask;
# - from version 7 on, the **version information**.
#
# Look for the white modules on the right: those are where the data go.

# %%
fixed = function_mask(2)
figure, axes = plt.subplots(1, 2, figsize=(7, 3.5), layout="constrained")
axes[0].imshow(~code, cmap="gray")
shown = torch.where(fixed, torch.where(code, 0.0, 0.45), 1.0)
axes[1].imshow(shown, cmap="gray", vmin=0, vmax=1)
for axis, title in zip(axes, ["the code", "its function patterns"], strict=True):
    axis.set_title(title, fontsize=10)
    axis.axis("off")
# %% [markdown]
# Why finders, of all shapes? Draw a line through the middle of one, at any angle: it crosses dark, light,
# dark, light, dark in the lengths 1 : 1 : 3 : 1 : 1. A scanner runs along the rows of a photo and looks
# for this rhythm, which ordinary scenes rarely have. The next figure is one row of the image. Count the
# widths at the left end and at the right.

# %%
figure, axis = plt.subplots(figsize=(7, 1.6))
row = target[0, 0, (4 + 3) * 8 + 4]
axis.step(torch.arange(len(row)) / 8 - 4, row, where="post")
axis.set(xlabel="module", yticks=[0, 1], yticklabels=["dark", "light"], xlim=(-4, 29));
# %% [markdown]
# ## The path of the data
#
# The data are one long row of bits, and the bits stand along a path. It begins in the **bottom right
# corner** and runs upwards in a strip two modules wide, in each row first the right module and then the
# left. At the top it moves to the next two columns and runs down, then up again, passing over every module
# that is fixed. Column 6 is all timing, so no strip contains it: left of it, the strips are columns 5 and
# 4, 3 and 2, 1 and 0.
#
# ### Exercise: the path

# %% exercise="qr_codes.layout.zigzag" lines=5
# %%
zigzag = check(zigzag)

# %% [markdown]
# Stuck? `hint(zigzag)` says a little more with each call.
#
# Now the path as a line, from its start (the dot). Each colour is one **codeword** of eight bits. Look how
# compact a codeword is: a stain on the paper spoils a few whole codewords, not a bit here and there in many.

# %%
path = zigzag(fixed)
figure, axis = plt.subplots(figsize=(4.6, 4.6))
axis.imshow(torch.where(fixed, 0.75, 1.0), cmap="gray", vmin=0, vmax=1)
for k in range(0, len(path), 8):
    rows, columns = path[k : k + 9].unbind(1)
    axis.plot(columns, rows, linewidth=2)
axis.plot(path[0, 1], path[0, 0], "ko")
axis.set(xticks=[], yticks=[])
axis.grid(False)
print(f"{len(path)} modules: {len(path) // 8} codewords, and {len(path) % 8} bits left over")

# %% [markdown]
# The bits left over, none to seven of them, are called remainder bits and mean nothing.
#
# ## Masks
#
# Written down as they are, the bits could happen to form a large dark patch, or a rhythm 1 : 1 : 3 : 1 : 1
# in the middle of the data. So they are XORed with one of eight patterns, the **masks**. The encoder tries
# all eight, counts penalty points for whatever would trouble a scanner, and writes into the format
# information which it took. The scanner XORs with the same mask, and the bits are back.
#
# With row $i$ and column $j$, both from 0, a mask turns over the modules where its formula is **zero**:
#
# | mask | formula | mask | formula |
# |---|---|---|---|
# | 0 | $(i+j) \bmod 2$ | 4 | $(\lfloor i/2\rfloor + \lfloor j/3\rfloor) \bmod 2$ |
# | 1 | $i \bmod 2$ | 5 | $ij \bmod 2 + ij \bmod 3$ |
# | 2 | $j \bmod 3$ | 6 | $(ij \bmod 2 + ij \bmod 3) \bmod 2$ |
# | 3 | $(i+j) \bmod 3$ | 7 | $((i+j) \bmod 2 + ij \bmod 3) \bmod 2$ |
#
# ### Exercise: the masks

# %% exercise="qr_codes.layout.mask_pattern" lines=12
# %%
mask_pattern = check(mask_pattern)

# %% [markdown]
# The eight of them, dark where a module is turned over. None has large plain areas.

# %%
masks = torch.stack([mask_pattern(mask, 21) for mask in range(8)])
plots.show((~masks).float()[:, None] * 2 - 1, [f"mask {k}" for k in range(8)], columns=8, size=0.9);
# %% [markdown]
# ## From a text to codewords
#
# A text is written in **byte mode**. First come four bits 0100 that say so, then the number of bytes in
# eight bits (sixteen from version 10 on), and then the bytes themselves. For *Hi*:

# %%
bits = text_bits("Hi", version=1)
written = "".join(str(int(bit)) for bit in bits)
print("mode", written[:4], "· two bytes", written[4:12], "· H", written[12:20], "· i", written[20:])

# %% [markdown]
# (Letters outside ASCII are written as UTF-8, and a short header in front says so: otherwise a scanner
# has to guess, and guesses differ.)
#
# A code of a given version and level has room for exactly so many data codewords, and they are always all
# written. What comes after the text is, in this order:
#
# 1. the **terminator**, four 0s, or fewer where there is no room for four;
# 2. 0s until the last byte is full;
# 3. **padding codewords**, 236 and 17 by turns, until all the room is used.
#
# A reader stops at the terminator. It never looks at the padding: remember this for later.
#
# ### Exercise: terminator and padding

# %% exercise="qr_codes.encoding.pad_codewords" lines=5
# %%
pad_codewords = check(pad_codewords)

# %%
data = pad_codewords(bits, capacity(1, "M"))
print(data.tolist())

# %% [markdown]
# ## Arithmetic that repairs
#
# A scratched code can still be read because it carries **parity** beside the data: Reed–Solomon codewords,
# from which a reader finds out which codewords are wrong *and* what they should have been. That takes a kind
# of number in which one byte is one number and every number but 0 can be divided by.
#
# ### A field of 256 numbers
#
# Take the bits of a byte as the coefficients of a polynomial: 0b1001 is $x^3 + 1$. The coefficients live in
# GF(2), the field of 0 and 1 in which $1 + 1 = 0$. So:
#
# - **adding** two bytes is XOR, nothing carries, and subtracting is the same as adding;
# - **multiplying by $x$** shifts the bits to the left by one;
# - where the result no longer fits into a byte, take away the polynomial $x^8 + x^4 + x^3 + x^2 + 1$, or
#   285 as a number, which we declare to be 0. It cannot be factored, and so plays the part that a prime
#   number plays in counting modulo $p$: all numbers but 0 have an inverse, and we have a field, GF(256).
#
# By hand: $2 \cdot 128$ is $x \cdot x^7 = x^8$. As a number that is 256, which does not fit; take 285 away
# by XOR, and 29 is left.

# %%
print(f"2 · 128 = 256, reduced: {256 ^ REDUCTION}")
print(f"3 · 3 = (x + 1)² = x² + 2x + 1 = x² + 1: {0b101}, not nine")

# %% [markdown]
# Multiplying by any $b$ goes as on paper. For every bit of $b$ that is 1, add a copy of $a$ that is shifted
# by as many places, where each single shift is followed by the reduction.
#
# ### Exercise: multiplying in GF(256)

# %% exercise="qr_codes.reed_solomon.gf_multiply" lines=7
# %%
gf_multiply = check(gf_multiply)

# %% [markdown]
# In this field the number $\alpha = 2$ generates all others: its powers 1, 2, 4, … 128, 29, … run through
# all 255 numbers but 0 before they come back to 1. The figure shows them in their order. Look for a
# pattern: after the first eight there is none to see.

# %%
powers = [torch.tensor(1)]
for _ in range(254):
    powers.append(gf_multiply(powers[-1], torch.tensor(2)))
print(f"{len({int(p) for p in powers})} different numbers")

figure, axis = plt.subplots(figsize=(7, 2.2))
axis.plot(powers, ".")
axis.set(xlabel="i", ylabel=r"$\alpha^i$");
# %% [markdown]
# ### Reed–Solomon
#
# Take the data codewords of a block as the coefficients of a polynomial $d(x)$ over GF(256), the first
# codeword with the highest power. We want to append $e$ parity codewords so that the whole is divisible by
# a **generator polynomial**
#
# $$g(x) = (x - \alpha^0)(x - \alpha^1)\cdots(x - \alpha^{e-1}).$$
#
# That is done by long division. Append $e$ zeros to the data, which is $d(x)\,x^e$, and divide by $g$. Call
# the remainder $r(x)$. Then $c(x) = d(x)\,x^e - r(x)$ is a multiple of $g$, and since $r$ has only
# $e$ coefficients, they take the place of the $e$ zeros (and minus is plus). The remainder *is* the parity.
#
# **What it is good for.** A multiple of $g$ is 0 at each of $g$'s roots. So a reader puts
# $\alpha^0, \dots, \alpha^{e-1}$ into the polynomial it has read. The $e$ results are called
# **syndromes**. If all are 0, nothing is wrong.
#
# **How much it repairs.** Could two different codewords of this kind agree in nearly all places? Their
# difference is again a multiple of $g$. Say it has $m \le e$ coefficients that are not 0, at the places
# $k_1, \dots, k_m$. Being 0 at $\alpha^0, \dots, \alpha^{m-1}$ is then a system of $m$ linear equations for
# these $m$ coefficients, with the matrix $(\alpha^{k_j})^i$. This is a Vandermonde matrix of the different
# numbers $\alpha^{k_j}$, which is invertible, so all of them would have to be 0. Hence two codewords differ
# in at least $e + 1$ places. If no more than $t = \lfloor e/2 \rfloor$ places of one are spoilt, it is still
# nearer to where it came from than to any other: **$e$ parity codewords repair $\lfloor e/2\rfloor$ wrong
# ones**, wherever they are.
#
# ### Exercise: the generator polynomial
#
# For $e = 2$ it is $(x-1)(x-2) = x^2 - 3x + 2$, and minus is plus: the coefficients 1, 3, 2.

# %% exercise="qr_codes.reed_solomon.rs_generator" lines=5
# %%
rs_generator = check(rs_generator)

# %% [markdown]
# ### Exercise: the parity
#
# By hand for the data 1 and $e = 2$: append two zeros and divide $x^2$ by $x^2 + 3x + 2$. It goes once, and
# $3x + 2$ is left, so the parity is 3, 2.
#
# The division need not keep the whole polynomial. Keep $e$ coefficients of remainder. For each
# data codeword, XOR it with the first of them: that is the new leading coefficient, and says how often $g$
# goes in. Shift the rest by one, and subtract that multiple of $g$'s other coefficients. `PRODUCTS` is the
# whole multiplication table: `PRODUCTS[a, b]` is $a\cdot b$.

# %% exercise="qr_codes.reed_solomon.rs_parity" lines=6
# %%
rs_parity = check(rs_parity)

# %%
data = pad_codewords(text_bits("Hi", 1), capacity(1, "M"))
block = torch.cat([data, rs_parity(data, 10)])
print("parity:", block[16:].tolist())
print("syndromes:", syndromes(block, 10).tolist())

spoilt = block.clone()
spoilt[3] ^= 1
print("one bit spoilt:", syndromes(spoilt, 10).tolist())

# %% [markdown]
# A single bit, and all ten syndromes notice. (How the wrong places are *found* from the syndromes, by the
# algorithms of Berlekamp–Massey or Euclid, is a fine subject of its own. Every scanner has it built in, and
# we shall only need to know how far it reaches.)
#
# ### Blocks, levels, budgets
#
# A code has one of four **levels** of error correction, L, M, Q and H, with more and more parity and less
# and less room for data. Larger codes are cut into several blocks, each with its own parity. In each block,
# `error_budget` codewords may be wrong.

# %%
print("level   version 3: data, parity per block, budget     version 5")
for level in "LMQH":
    three, five = blocks(3, level), blocks(5, level)
    print(f"{level}       {[tuple(b) for b in three]!s:22} budget {qr_codes.error_budget(3, level):2}"
          f"           {[tuple(b) for b in five]}")

# %% [markdown]
# A stain hits codewords that are neighbours. If they all belonged to one block, its budget would soon be
# spent, while the other blocks had hardly used theirs. So the blocks are **interleaved**: the first codeword
# of every block, then the second of every block, and so on. The last blocks may be one longer, and their last
# codewords follow at the end. First all data are sent like this, then all parity.
#
# ### Exercise: interleaving

# %% exercise="qr_codes.encoding.interleave" lines=2
# %%
interleave = check(interleave)

# %% [markdown]
# Version 5 at level Q has four blocks. Here is which of them each module belongs to. Look at any spot:
# neighbours along the path have different colours, so the blocks share its damage.

# %%
places, (rows, columns) = sent_places(5, "Q"), data_path(5)
owner = torch.full((37, 37), float("nan"))
for number, place in enumerate(places):
    steps = (8 * place[:, None] + torch.arange(8)).flatten()
    owner[rows[steps], columns[steps]] = number
figure, axis = plt.subplots(figsize=(3.8, 3.8))
axis.imshow(owner, cmap="Set2", vmin=0, vmax=7)
axis.set(xticks=[], yticks=[])
axis.grid(False)
# %% [markdown]
# Have we built it right? All of it, put together, must be what the library makes, module by module. We read
# the library's code by hand: take the mask off, follow the path, collect eight bits at a time.

# %%
text = "https://example.com/"
code = qr_codes.make_code(text, version=5, level="Q")
level, mask = read_format(code)

data = pad_codewords(text_bits(text, 5), capacity(5, "Q"))
pieces = list(data.split([b.data for b in blocks(5, "Q")]))
ours = torch.cat([interleave(pieces), interleave([rs_parity(p, 18) for p in pieces])])

unmasked = (code ^ mask_pattern(mask, 37))[zigzag(function_mask(5)).unbind(1)]
theirs = to_bytes(unmasked[: 8 * len(ours)])
print(f"level {level}; {len(ours)} codewords, all equal: {bool((ours == theirs).all())}")

# %% [markdown]
# ## What a scanner does
#
# Now the other way. A phone has a **photo**: colours, shadows, blur and noise. We make one of a code.
# The shadow falls from the left, and the light is warm.

# %%
def photo(image: Tensor, seed: int = 0) -> Tensor:
    """A photo-like picture of an image: warm light, a shadow from the left, blur, noise."""
    generator = torch.Generator().manual_seed(seed)
    side = image.shape[-1]
    light = torch.linspace(0.25, 1, side) * torch.tensor([1.0, 0.9, 0.75]).reshape(3, 1, 1)
    blurred = F.avg_pool2d(0.1 + 0.8 * image, 5, 1, 2, count_include_pad=False)
    noise = 0.03 * torch.randn(1, 3, side, side, generator=generator)
    return (blurred * light + noise).clamp(0, 1)


code = qr_codes.make_code("diffusion", version=2, level="M")
taken = photo(qr_codes.render(code, module_size=8))

# %% [markdown]
# **1. Grey.** Scanners throw colour away. What is left is the luminance, in which green counts most and
# blue least, as for the eye:
#
# $$g = 0.299\,R + 0.587\,G + 0.114\,B .$$
#
# This formula is why a code in dark blue on yellow reads well and one in red on green does not, whatever the
# eye thinks of it. Lesson 10 will guide a diffusion model by it.
#
# ### Exercise: luminance

# %% exercise="qr_codes.scanning.luminance" lines=6
# %%
luminance = check(luminance)

# %% [markdown]
# **2. Threshold.** What is darker than the threshold is dark. One level for the whole photo fails where
# there are shadows. So scanners compare each pixel with the mean of its surroundings, which are several
# modules wide. In the figure, look at the left edge of both results. (The local threshold makes noise out
# of plain areas, which does no harm: only the middle of each module is looked at later.)

# %%
grey = luminance(taken)
around = local_mean(grey, reach=28)
figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
pictures = [taken[0].permute(1, 2, 0), grey[0, 0], (grey > 0.5)[0, 0], (grey > around)[0, 0]]
titles = ["the photo", "grey", "one threshold, 0.5", "the mean around"]
for axis, picture, title in zip(axes, pictures, titles, strict=True):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=10)
    axis.axis("off")
# %% [markdown]
# **3. Where the modules are.** The finders give three corners, the timing patterns the number of modules,
# the alignment patterns a correction. From these a scanner computes a perspective map from the photo to
# the grid. Our photos are taken straight on, so we skip this step: we know where the code is.
#
# **4. Module centres.** Only the middle of a module is read, because its borders are blurred into its
# neighbours. Scanners look at one pixel, or a few. We take the mean of the middle third: of $s$ pixels along
# a side, $\lfloor s/3\rfloor$ are left out at either end. That modules are read in the middle is what all
# artistic codes live on: *the rest of the module is ours*.
#
# ### Exercise: the middle of each module

# %% exercise="qr_codes.scanning.module_means" lines=8
# %%
module_means = check(module_means)

# %%
means = module_means(grey - around, 25, module_size=8, margin=4)
read = means < 0
print(f"{int((read != code).sum())} of {code.numel()} modules are wrong")

# %% [markdown]
# **5. Bits.** The format information says which mask to take off, the path gives the codewords, the
# parity repairs them (ours need no repair), and the first bits say how many bytes follow.

# %%
def read_text(code: Tensor) -> str:
    """The text of a code in which nothing is wrong, in byte mode, of a version below 10."""
    (level, mask), version = read_format(code), version_of(code)
    bits = (code ^ mask_pattern(mask, len(code)))[zigzag(function_mask(version)).unbind(1)]
    sent = to_bytes(bits[: len(bits) // 8 * 8])
    places, sizes = sent_places(version, level), blocks(version, level)
    data = torch.cat([sent[p[: b.data]] for p, b in zip(places, sizes, strict=True)])
    stream = to_bits(data)
    length = int(to_bytes(stream[4:12]))
    return bytes(to_bytes(stream[12 : 12 + 8 * length]).tolist()).decode()


print(read_text(read))

# %% [markdown]
# From a photo to a text, and every step is yours. Real scanners do it beside ours from now on.
# `qr_codes.scan` asks all that this computer has: `zxing-cpp` always, `pyzbar` where its library zbar is
# installed, OpenCV where you have it.

# %% tags=["nbval-ignore-output"]
qr_codes.scan(taken)

# %% [markdown]
# ## The error budget
#
# Is a code with 3 % wrong modules readable? The number alone does not say. Reed–Solomon repairs *codewords*,
# so eight wrong modules in one codeword cost as much as a single one, while eight wrong modules in eight
# codewords cost eight times that. And each block has to manage on its own.
#
# ### Exercise: what the errors cost
#
# `errors` is True where a module is wrong. Count the codewords that hold an error, block by block.

# %% exercise="qr_codes.scanning.codeword_errors" lines=4
# %%
codeword_errors = check(codeword_errors)

# %% [markdown]
# Now spoil a code in two ways: the same number of modules, once as a blot and once scattered. Level M of
# version 3 repairs 13 codewords. Which of the two will live?

# %%
generator = torch.Generator().manual_seed(0)
code = qr_codes.make_code(text, version=3, level="M")
free = torch.nonzero(~function_mask(3))
blot = torch.zeros(29, 29, dtype=torch.bool)
blot[12:18, 12:18] = True
scatter = torch.zeros_like(blot)
scatter[free[torch.randperm(len(free), generator=generator)[:36]].unbind(1)] = True

for name, errors in [("blot", blot), ("scatter", scatter)]:
    print(f"{name}: {int(errors.sum())} modules, {codeword_errors(errors, 3, 'M')[0]} codewords wrong")

# %% [markdown]
# A **scan report** puts it together: which modules are wrong, what they cost, and what each scanner says.
# In the figure, wrong modules are marked.

# %%
reports = []
figure, axes = plt.subplots(1, 2, figsize=(6.4, 3.2), layout="constrained")
for axis, name, errors in zip(axes, ["a blot", "scattered"], [blot, scatter], strict=True):
    image = qr_codes.render(code ^ errors)
    reports.append(qr_codes.scan_report(image, code, module_size=8, margin=4))
    axis.imshow(image[0, 0], cmap="gray")
    i, j = torch.nonzero(reports[-1].errors).unbind(1)
    axis.plot(j * 8 + 35.5, i * 8 + 35.5, "s", color=plots.COLOURS[1], markersize=3)
    scans = "scans" if reports[-1].texts["zxing-cpp"] else "does not scan"
    axis.set_title(f"{name}: {reports[-1].wrong[0]} of {reports[-1].budget} codewords, {scans}", fontsize=9)
    axis.axis("off")

# %% tags=["nbval-ignore-output"]
print(reports[0])

# %% [markdown]
# So a code *with* wrong modules can scan. The opposite happens too: a code **without a single wrong module
# that does not scan**. Below, the same code three times, and in each the middle of every module is right.
# On the left is the code as it should be. In the middle its quiet zone is black, so the finders run into it
# and their rhythm is lost. On the right the function patterns show what they should in the middle of each
# module and are noise around it. Our report sees no error; the scanners see no code.

# %%
good = qr_codes.render(code)
framed = good.clone()
outside = torch.ones(1, 1, *good.shape[2:], dtype=torch.bool)
outside[..., 32:-32, 32:-32] = False
framed[outside] = 0.0

grain = torch.rand(good.shape, generator=generator)
borders = torch.ones(8, 8, dtype=torch.bool)
borders[2:6, 2:6] = False
patterns = qr_codes.render(function_mask(3), dark=1, light=0) > 0
noisy = torch.where(patterns & borders.repeat(37, 37), grain, good)

# %%
figure, axes = plt.subplots(1, 3, figsize=(8, 2.9), layout="constrained")
for axis, image in zip(axes, [good, framed, noisy], strict=True):
    report = qr_codes.scan_report(image, code, module_size=8, margin=4)
    axis.imshow(image[0, 0], cmap="gray", vmin=0, vmax=1)
    scans = "scans" if report.texts["zxing-cpp"] else "does not scan"
    axis.set_title(f"{int(report.errors.sum())} modules wrong: {scans}", fontsize=10)
    axis.axis("off")
# %% [markdown]
# Keep the two apart: **module errors** say what the parity has to repair, a **scanner's verdict** also
# depends on whether it finds the code at all. For artists this means: respect the quiet zone and the function
# patterns, and be free in the rest.
#
# ## Qart: a code whose own bits draw
#
# The easiest way to a picture in a code is to paint over it and let the parity repair the damage. That
# spends the budget before the code has met its first scratch. In 2012 Russ Cox had a better idea, *QArt
# codes*: choose among the **many correct codes of the same text** the one that looks most like the picture.
# Its budget is untouched.
#
# Where do many codes of one text come from? From the padding, which nobody reads. Its bits are free.
#
# ### How much is free
#
# Version 3 at level L holds 55 data codewords. A text of 20 bytes takes 22 of them with its header and the
# terminator. That leaves 33 padding codewords: 264 bits to choose.

# %%
message = padding_message(text, 3, "L")
print(f"{len(text)} bytes; free bits at level L: {int(message.free.sum())}, "
      f"at level M: {int(padding_message(text, 3, 'M').free.sum())}")

# %% [markdown]
# We could set these 264 modules as we like and be done. But they all stand in one part of the path, and
# the picture may need its details elsewhere. The step that makes Qart good comes from one line of algebra.
# Parity is a remainder, and the remainder of a sum is the sum of remainders. With XOR as the sum:
#
# $$\operatorname{parity}(a \oplus b) = \operatorname{parity}(a) \oplus \operatorname{parity}(b).$$
#
# In words: **turning over a data bit always turns over the same parity bits, whatever the other bits are.**
# Try it:

# %%
a, b = torch.randint(256, (2, 55), generator=generator)
print("linear:", bool((rs_parity(a ^ b, 15) == rs_parity(a, 15) ^ rs_parity(b, 15)).all()))

# %% [markdown]
# So write the block's 560 bits, data and parity, as a vector over GF(2). Start with the code as it is, the
# **base**. Each free bit has a **row**: the bits that turn over when it does, itself and its parity. All
# codes of the text are
#
# $$\text{base} \;\oplus\; \text{any sum of rows}.$$
#
# This is linear algebra. The rows span a space of 264 dimensions, and there we may choose *other* modules
# to be free. A parity bit can be set at will, if in return some padding bit goes where it must. The tool is
# Gaussian elimination. Here are the rows, the free data bits on the left and the parity on the right.

# %%
free = message.free
unit = torch.eye(len(free), dtype=torch.bool)[free]
rows = torch.cat([unit, to_bits(rs_parity(to_bytes(unit), 15))], dim=1)
figure, axis = plt.subplots(figsize=(7.5, 3.4))
axis.imshow(~rows, cmap="gray", aspect="auto", interpolation="nearest")
axis.axvline(440, color=plots.COLOURS[1])
axis.set(xlabel="bit of the block: text, padding | parity", ylabel="free bit")
axis.grid(False)
# %% [markdown]
# ### Which modules to choose
#
# We can choose 264 modules out of 560, so we need an order: how much does each matter? First the picture
# is brought to one brightness a module. Modules below a threshold should be dark, and the median makes
# half of them so. Then three things count:
#
# - how far the brightness is from the **threshold**: where it is near, either colour will do;
# - **contrast** in the neighbourhood: edges are what makes a picture readable;
# - the **centre** before the corners.
#
# $$w = |p - \theta| \cdot (1 + \text{contrast}) \cdot \big(1 - \tfrac12 r\big), \qquad r = 1 \text{ in the corners}.$$
#
# ### Exercise: the weights

# %% exercise="qr_codes.targets.module_weights" lines=8
# %%
module_weights = check(module_weights)

# %% [markdown]
# The small painted world of this course supplies pictures; its colours and shapes are drawn by code. On
# the left one of its scenes, then its brightness in modules, what we want, and how much we want it.

# %%
def scene(seed: int, size: int = 240, **wanted: object) -> Tensor:
    """A scene as an image: (1, 3, size, size) in [0, 1]."""
    picture = np.array(scenery.draw(wanted, seed, size))
    return torch.from_numpy(picture).permute(2, 0, 1)[None] / 255


picture = scene(7)
modules = F.adaptive_avg_pool2d(luminance(picture), 29)[0, 0]
threshold = modules.median()
weights = module_weights(modules, threshold)

figure, axes = plt.subplots(1, 4, figsize=(9, 2.5), layout="constrained")
for axis, image, title in zip(axes, [picture[0].permute(1, 2, 0), modules, modules >= threshold, weights],
                              ["a scene", "in modules", "the target", "the weights"], strict=True):
    axis.imshow(image, cmap="gray")
    axis.set_title(title, fontsize=10)
    axis.axis("off")
# %% [markdown]
# ### Elimination, by hand
#
# Three rows over five bits. We want to set bit 4 (the last) first, then bit 0:
#
# ```
# r0 = 1 0 0 1 1
# r1 = 0 1 0 1 1
# r2 = 0 0 1 1 0
# ```
#
# Bit 4 is in r0 and r1. Take r0 as its **pivot** row and add it to r1, so that bit 4 is in no other row:
# r1 becomes 1 1 0 0 0. Now bit 0 is in r0 and r1; r0 has its pivot already, so r1 becomes bit 0's pivot, and
# is added to r0: r0 becomes 0 1 0 1 1. From now on bit 4 is turned over by r0 alone, and bit 0 by r1 alone.
# Whatever r2 does, it disturbs neither.
#
# ### Exercise: one step of elimination

# %% exercise="qr_codes.elimination.clear_column" lines=3
# %%
clear_column = check(clear_column)

# %%
rows3 = torch.tensor([[1, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0, 0, 1, 1, 0]]).bool()
step1 = clear_column(rows3, pivot=0, column=4)
print(clear_column(step1, pivot=1, column=0).int())

# %% [markdown]
# The whole algorithm goes through the bits in the order of weight. If a row without a pivot has a 1 there,
# it becomes the pivot row, and `clear_column` follows. If not, the bit is already determined by the bits
# chosen before, and is passed over. After 264 pivots nothing is left to choose.
#
# (Is it wise to be greedy? Here it is optimal: no set of independent bits has a larger total weight. Sets
# of independent columns are what mathematicians call a *matroid*, and on matroids the greedy choice always
# wins.)
#
# In the figure are the rows after elimination, their columns in the order of weight. Along the diagonal each
# row owns one bit. Where the diagonal pauses, a bit was passed over: mostly one of the text's own, which no
# row touches. The speckled columns on the right come after the last pivot; the choice decides them.

# %%
path = zigzag(function_mask(3)).unbind(1)
along = weights[path][:560]
order = along.argsort(descending=True, stable=True)
span = eliminate(rows, order)
figure, axis = plt.subplots(figsize=(7.5, 3.2))
first = span.pivots.argsort()
shown = span.rows[torch.stack([(order == p).nonzero()[0, 0] for p in span.pivots]).argsort()][:, order]
axis.imshow(~shown, cmap="gray", aspect="auto", interpolation="nearest")
axis.set(xlabel="bit, the most important first", ylabel="row")
axis.grid(False)
# %% [markdown]
# Now every pivot that differs from what we want is set right by its own row, independently of the others.
# That is all: `solve` is one line. A mask turns bits over but changes no row, so the same elimination serves
# all eight masks, and we keep the likest.
#
# One more gain is cheap. A row turns over its pivot *and* some bits that nobody chose. If these gain more
# than the pivot loses, turn it over: `refine` repeats this until no row helps.

# %%
base = to_bits(send(to_bytes(message.bits), 3, "L"))
wanted = (modules < threshold)[path][:560]
unmasked = wanted ^ mask_pattern(3, 29)[path][:560]
solved = solve(span, base, unmasked)
refined = refine(span, solved, unmasked, along + along.mean())
for name, bits in [("base", base), ("solved", solved), ("refined", refined)]:
    print(f"{name}: {(bits == unmasked).float().mean():.0%} of the bits are as the picture wants them")

# %% [markdown]
# From left to right: the plain code of the text, the code after `solve`, the same after `refine`, each
# with mask 3, and the best of eight masks. All four say the same, and in none of them is anything wrong.

# %%
candidates = [draw(to_bytes(bits), 3, "L", 3) for bits in (base, solved, refined)]
candidates.append(qr_codes.qart(text, picture, version=3, level="L"))
images = torch.cat([qr_codes.render(c, module_size=6) for c in candidates])
plots.show(images * 2 - 1, ["plain", "solved", "refined", "best mask"], size=2)
for c in candidates:
    assert qr_codes.scan(qr_codes.render(c))["zxing-cpp"] == text
# %% [markdown]
# <details><summary><b>Think:</b> choosing 264 modules of 560 and guessing the rest would agree with the
# picture in 264/560 + ½ · 296/560 = 74 %. Why is so little gained beyond?</summary>
#
# Of the 296 modules that were not chosen, 176 are the text's own. They are the same in every code of this
# text; only the mask changes them. Choosing the best of eight masks helps a little there, and `refine` helps
# in the 120 that are parity.
# </details>
#
# ### More freedom
#
# More of the code is free where it is larger, the level lower or the text shorter. Look at the same scene
# at versions 3, 6 and 10. The price is the number of modules: they become smaller in print.

# %%
versions = [3, 6, 10]
made = [qr_codes.qart_codes(text, picture, version=v, mask=2)[0] for v in versions]
figure, axes = plt.subplots(1, 3, figsize=(9, 3.2), layout="constrained")
for axis, q, v in zip(axes, made, versions, strict=True):
    axis.imshow(~q.code, cmap="gray")
    axis.axis("off")
    axis.set_title(f"version {v}: {int(q.controlled.sum())} modules chosen, {q.agreement:.0%} agree", fontsize=9)
# %% [markdown]
# Version 10 at level L has four blocks, and the text lives in the first of them: the other three are free
# altogether.
#
# If the text is a web address there is another way, and it is the one that Cox took. Add `#` and digits to
# it: browsers ignore what follows the #. Digits are written three at a time in ten bits, which are then the
# free ones, and the padding stays as the standard has it. The text is then longer than it was.

# %% tags=["nbval-ignore-output"]
with_digits = qr_codes.qart_codes(text, picture, version=6, mask=2, fragment=True)[0]
print(with_digits.text[:60], "…")
print("scans:", qr_codes.scan(qr_codes.render(with_digits.code))["zxing-cpp"] == with_digits.text)

# %% [markdown]
# ## Halftone codes
#
# Qart draws with whole modules, so it has 29 × 29 pixels. But a scanner reads only the middle of a module.
# **Halftone codes** (Chu et al., 2013) cut each module into 3 × 3 cells, leave the middle one to the code and
# give the other eight to the picture. That makes 87 × 87 dots. The picture is turned into black and white
# dots by error diffusion, as newspapers used to print photos.
#
# ### Exercise: whose cell is it?

# %% exercise="qr_codes.halftones.halftone_cells" lines=4
# %%
halftone_cells = check(halftone_cells)

# %% [markdown]
# On the left the dots alone, then the plain code with them, then the Qart code with them. Where the code
# already agrees with the picture, the middle cell does not disturb: look at the large plain areas.

# %%
plain, qart_code = candidates[0], candidates[3]
dots = dither(picture, 87)
cells = [dots, *(halftone_cells(c, dots, function_mask(3)) for c in (plain, qart_code))]
images = torch.cat([qr_codes.render(c, module_size=3, margin=12) for c in cells])
plots.show(images * 2 - 1, ["dots", "plain code", "Qart code"], size=2.8);
# %% [markdown]
# ## ArtCoder: optimise the pixels
#
# The third method thinks as we do in this course: write down what we want as a loss, and follow the
# gradient. **ArtCoder** (Su et al., 2021) starts from a picture and optimises its pixels under three losses:
#
# - **content**: features of the image should be like the picture's;
# - **style**: the *correlations* of features, their Gram matrix, should be like those of a style picture;
# - **code**: what a scanner samples from each module should be on the right side.
#
# The authors take the features of a large network, VGG. We stay honest and small: fixed filters for
# colours, edges and spots at three scales. They know nothing of objects, but they do know texture.
#
# The code loss is the interesting part, and the ancestor of DiffQRCoder's. A scanner reads near the middle
# of a module, so each module's brightness $m$ is a mean under a Gaussian. Dark modules should have $m = 0$
# and light ones $m = 1$. But a squared error on all of them would drive the whole image to black and white.
# So a module that is **already right** is left alone: with a slack $\eta$,
#
# $$\mathcal L_{\text{code}} = \frac1{n^2}\sum_k
# \begin{cases} 0 & \text{dark and } m_k < \tfrac12 - \eta, \text{ or light and } m_k > \tfrac12 + \eta,\\
# (m_k - y_k)^2 & \text{otherwise.}\end{cases}$$
#
# With such an **early stop** the code loss can fall to exactly 0, and then the picture alone decides.
#
# ### Exercise: the code loss

# %% exercise="qr_codes.pixels.code_loss" lines=3
# %%
code_loss = check(code_loss)

# %% [markdown]
# Forty steps, from the plain code and from the Qart code. The curves are the code loss of each image on the
# way. Look where they start: the Qart code begins with fewer modules to change, and that is why DiffQRCoder,
# in the next lesson, also begins with Qart.

# %%
results, curves = [], []
for c in (plain, qart_code):
    walk = list(qr_codes.artcoder(c, picture, module_size=6, steps=40))
    curves.append([float(code_loss(sampled(x, 29, 6, 4), c)) for x in walk])
    results.append(walk[-1])

figure, axis = plt.subplots(figsize=(6.4, 2.6))
for curve, label in zip(curves, ["plain code", "Qart code"], strict=True):
    axis.plot(curve, label=label)
axis.set(xlabel="step", ylabel="code loss", ylim=(0, None))
axis.legend();

# %%
start = F.pad(F.interpolate(picture, size=(174, 174), antialias=True, mode="bilinear"), (24,) * 4, value=1)
plots.show(torch.cat([start, *results]) * 2 - 1, ["the picture", "plain code", "Qart code"], size=2.8);
# %% [markdown]
# ## Which one scans?
#
# All of them, on a good day. So make the day worse: less and less contrast under the same noise, and ask
# `zxing-cpp`. Each cell of the figure is the share of ten noisy copies that were read.

# %%
codes = {
    "plain": qr_codes.render(plain, 6).expand(1, 3, -1, -1),
    "Qart": qr_codes.render(qart_code, 6).expand(1, 3, -1, -1),
    "halftone + Qart": qr_codes.halftone(qart_code, picture, 6).expand(1, 3, -1, -1),
    "pixels + Qart": results[1],
}
contrasts = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3]


def share_read(image: Tensor, contrast: float, copies: int = 10) -> float:
    """The share of noisy copies at a lower contrast that zxing-cpp reads."""
    generator, read = torch.Generator().manual_seed(0), 0
    for _ in range(copies):
        noise = 0.1 * torch.randn(image.shape, generator=generator)
        spoilt = (0.5 + contrast * (image - 0.5) + noise).clamp(0, 1)
        read += qr_codes.scan(spoilt)["zxing-cpp"] == text
    return read / copies


table = torch.tensor([[share_read(x, c) for c in contrasts] for x in codes.values()])
figure, axis = plt.subplots(figsize=(6.4, 2.4))
axis.imshow(table, cmap="Greens", vmin=0, vmax=1, aspect="auto")
axis.grid(False)
axis.set(xticks=range(6), xticklabels=contrasts, yticks=range(4), yticklabels=codes, xlabel="contrast")
for (i, j), value in np.ndenumerate(table.numpy()):
    colour = "white" if value > 0.6 else "black"
    axis.text(j, i, f"{value:.0%}", ha="center", va="center", fontsize=9, color=colour)
# %% [markdown]
# The pixels pay the most: they were optimised until each module was right by the slack and no further, so
# little is left when contrast goes. But Qart pays too, although nothing in it is wrong and its budget is
# whole. Its plain areas are the reason. In the middle of a large dark patch the mean of the surroundings is
# dark as well, so a local threshold has nothing to compare with, and noise decides. Large plain areas are
# just what masks were invented against, and Qart makes them on purpose. The halftone dots break them up.
#
# This is where the lecture's last part begins: traditional methods either look like codes (Qart), or like
# codes with a picture pressed into them. Generative methods draw a new picture in which the code is at
# home, and struggle to keep it scannable. Lesson 10 builds one that does.
#
# ## Recap
# 1. A code is function patterns and a path of bits; a mask keeps the bits from looking like patterns.
# 2. Parity is the remainder by $g(x)$ over GF(256). $e$ parity codewords repair $\lfloor e/2\rfloor$ wrong
#    ones in each block, and blocks are interleaved so that they share the damage.
# 3. A scanner takes grey, a local threshold, and the middle of each module. Module errors and a scanner's
#    verdict are two things.
# 4. Qart: padding is free and Reed–Solomon is linear over GF(2), so elimination lets us set the modules that
#    matter most, data or parity, at no cost to the budget.
# 5. Halftone leaves the code the middle cell; ArtCoder optimises pixels and lets modules that are right be.
#
# **What can go wrong.** Rows and columns exchanged in the path or the mask. The powers of α taken modulo 256.
# Parity computed without shifting the data. Blocks not interleaved. Modules counted where codewords are
# meant. Pivot rows added to themselves, or only to the rows below. Pictures in the quiet zone. A code judged
# by the scanner that it was tuned on.
#
# **Read on.** ISO/IEC 18004, the standard. Russ Cox, *QArt Codes* (research.swtch.com/qart) and *Finite Field
# Arithmetic and Reed–Solomon Coding* (research.swtch.com/field). Chu, Chang, Yang, Chuang, Liu & Lee,
# *Halftone QR Codes*, ACM Transactions on Graphics 32(6), 2013. Su, Niu, Liu, Li, Wan & Xu, *ArtCoder: An
# End-to-end Method for Generating Scanning-robust Stylized QR Codes*, CVPR 2021. Gatys, Ecker & Bethge,
# *Image Style Transfer Using Convolutional Neural Networks*, CVPR 2016, for content and style losses.
#
# **Next.** Lesson 10 puts the code loss into the sampler of lesson 04: DiffQRCoder.
