# %% [markdown]
# # A1 · Scenery: a painted world that knows what it shows
#
# **After this lesson you can**
# - paint a landscape with NumPy, layer by layer: a sky, ridges in the haze, a lake that mirrors them;
# - make a data set without a download: pictures, captions that are true by construction, and the truth
#   itself as a table, all from a seed;
# - write a pattern into the light of a picture and read it back, which is how the pairs for a ControlNet
#   are made.
#
# **Time:** about an hour. **Needs:** NumPy. This is an appendix: no diffusion model appears, but the tiny
# Stable Diffusion of lessons 10 and 12 has seen nothing else than the pictures painted here.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

from course import plots, qr_codes, scenery
from course.checks import check, hint
from course.scenery import air, buildings, land, stage, stamps, water, world
from course.scenery.captions import PHRASES, meaning
from course.scenery.fields import Array, field, floor, smoothstep
from course.scenery.light import LIGHTS, Colour, light_of, mix, rgb
from course.scenery.pattern import LUMA, Grid, module_means
from course.scenery.sky import LEVELS, heights, lookup, widths

plots.set_style()


def show(pictures, titles=None, columns=None, size=2.0):
    """Paintings side by side: PIL images, or arrays (s, s, 3) in [0, 1]."""
    arrays = [np.asarray(p) / 255 if isinstance(p, Image.Image) else p for p in pictures]
    x = torch.from_numpy(np.stack(arrays)).float().permute(0, 3, 1, 2) * 2 - 1
    plots.show(x, titles, columns=columns, size=size)


# %% [markdown]
# ## A scene
#
# A seed is a scene: a picture, a caption, and its **attributes**, a dictionary of all that was painted.

# %%
one = scenery.scene(3, size=256)
print(one.caption)
print({name: value for name, value in one.attributes.items() if value not in (False, "none")})
show([one.image], size=3.2)
# %% [markdown]
# Why paint one's own data? Because a data set for learning text-to-image has three troubles, and here are
# none of them. It is *large*: these pictures are made when they are needed, some thirty a second, and there
# are as many as there are seeds. It *belongs to somebody*: these are ours. And its captions, written by
# people or scraped from web pages, are *half true*: nobody knows what share of the pictures captioned
# "church" have one. Here a caption is made from the attributes, as the picture is. Neither is made from the
# other, so they cannot disagree, and a model's answer can be marked against the truth.
#
# The price: it is a small world. A model that has learned it knows eight kinds of place, painted by one
# hand, and fewer than two hundred words. That is the bargain of every synthetic data set.
#
# Look through the contact sheet of the first 32 seeds. Which hour is it in each? What is the weather? Could
# a classifier tell?

# %%
scenery.contact_sheet(range(32), size=96, columns=8)

# %% [markdown]
# ## The truth comes first
#
# What a scene holds is drawn first, attribute by attribute, each with odds that depend on those before it.
# So an aurora needs a clear night, and smoke needs a chimney:

# %%
print("aurora needs", world.NEEDS["aurora"])
night = {"kind": "winter wonderland", "season": "winter", "time_of_day": "night", "weather": "clear"}
for weather in ("clear", "snowy"):
    print(weather, "winter night, odds of an aurora:", world.odds("aurora", night | {"weather": weather}))
try:
    scenery.draw({"kind": "meadow", "building": "lighthouse"}, seed=0)
except ValueError as error:
    print("Refused:", error)

# %% [markdown]
# The odds are a design decision, and a model feels them: what is in one picture of a thousand is never
# learned. In the figure, each bar is a value of an attribute; look for the shortest. The rarest of all, the
# aurora and the lighthouse's beam, are in about 2 % of the scenes, which is over a hundred times among the
# 6,000 that the tiny models are trained on.

# %%
rng = np.random.default_rng(0)
worlds = [scenery.sample(rng) for _ in range(2000)]
figure, axes = plt.subplots(1, 4, figsize=(9.5, 2.6), layout="constrained")
for axis, name in zip(axes, ["time_of_day", "weather", "building", "celestial"], strict=True):
    values = scenery.ATTRIBUTES[name]
    shares = [np.mean([w[name] == value for w in worlds]) for value in values]
    axis.barh([str(v) for v in values], shares)
    axis.invert_yaxis()
    axis.set(title=name, xlabel="share of scenes")
# %% [markdown]
# ### A caption that cannot lie
#
# A phrase comes with the attributes that make it true. These are some of the 156:

# %%
for text, why in PHRASES[28:96:8]:
    print(f"{text!r:28} is true when {why}")

# %% [markdown]
# To caption a scene, take the phrases whose conditions all hold, choose one for each topic, leave some
# topics out, and shuffle. In set language a condition holds when the phrase's pairs are a *subset* of the
# scene's, and for dictionaries Python writes that as `<=`:

# %%
true = [text for text, why in PHRASES if why.items() <= one.attributes.items()]
print(f"{len(true)} of {len(PHRASES)} phrases are true of the scene above, among them:")
print(", ".join(true[::4]))

# %% [markdown]
# The same scene can be told in very many ways. The place usually comes first, as in the prompts that people
# write; the rest is in any order, because a model that had always read "moon" after "stars" would not know
# what to do with a prompt that puts it first.

# %%
for seed in range(4):
    print("·", scenery.caption(one.attributes, np.random.default_rng(seed)))

# %% [markdown]
# And the other way round: `meaning` says what a phrase demands, so every caption can be marked.

# %%
def is_true(phrase, attributes):
    return any(why.items() <= attributes.items() for why in meaning(phrase))


said = [(s, phrase) for s in map(scenery.scene, range(40), [16] * 40) for phrase in s.caption.split(", ")]
print(f"{sum(is_true(phrase, s.attributes) for s, phrase in said)} of {len(said)} phrases are true")
print("a lie:", is_true("golden sunset", one.attributes))

# %% [markdown]
# <details><summary>Think: a caption leaves things out. When a model draws a moon that its prompt did not
# mention, is that wrong? And when 100 captions are matched with 100 pictures, can all be right?</summary>
#
# Not mentioned is not absent, so the moon is no mistake: prompt-following is measured on the attributes
# that a caption *speaks* of. And no: two quiet seasides at dusk can get the same caption. A retrieval score
# of 100 % is out of reach for anybody, which is why we compare with what a good classifier reaches.
#
# </details>
#
# ## A sky
#
# Now we paint. A picture is an array `pixels` of shape `(s, s, 3)` in [0, 1], row 0 at the top. All
# lengths are in *picture heights*, so that one program paints at every size.
#
# The simplest sky is a gradient: a colour at the zenith, another halfway, a third at the horizon. Between
# two **stops** at $p$ and $q$ with colours $a$ and $b$, the colour at $y$ is
#
# $$c(y) = a + \frac{y-p}{q-p}\,(b-a), \qquad p \le y \le q .$$
#
# By hand: black at 0, white at 1. At $y = 0.25$ it is $0 + 0.25 \cdot 1 = 0.25$. With a third stop,
# a grey of 0.2 at $p = 0.5$, it is half of 0.2, and 0.1.
#
# ### Exercise: the ramp
#
# Looking colours up in a table is faster than computing them for each pixel. Make the table: the gradient
# at `LEVELS` = 512 places from 0 to 1.

# %% exercise="scenery.sky.ramp" lines=3
# %%
ramp = check(ramp)

# %% [markdown]
# Stuck? `hint(ramp)` says a little more with each call.
#
# Here are the skies of four hours, with your ramp. They are smooth, and dead: look at one for a while.

# %%
def table_of(light):
    return ramp([(0.0, light.zenith), (0.55, light.middle), (0.97, light.horizon)])


y = heights(192) + 0 * widths(192)
show([lookup(table_of(light), y) for light in LIGHTS.values()], list(LIGHTS), size=1.8)

# %% [markdown]
# A painter never covers a sky evenly: the brush picks up what lies beside it. So we look up each pixel's
# colour not at its own height but a little above or below, as a texture of brush strokes says:
#
# $$c = \text{ramp}\bigl(y + 0.17\,(s - \tfrac12) + 0.16\,(w - \tfrac12)\bigr),$$
#
# with $s$ the strokes and $w$ a slow wave. Colours are only moved about, so none comes in that is not in the
# ramp. This **broken colour** also has a technical use: a QR code that will be hidden in the picture needs
# texture everywhere, and a smooth sky has none.

# %%
strokes = field("sky", 192, np.random.default_rng(1))
slow = field("wide", 192, np.random.default_rng(2))
moved = y + 0.17 * (strokes - 0.5) + 0.16 * (slow - 0.5)
skies = [lookup(table_of(light), moved) * (0.94 + 0.12 * strokes)[..., None] for light in LIGHTS.values()]
show([np.clip(sky, 0, 1) for sky in skies], list(LIGHTS), size=1.8)

# %% [markdown]
# ## Ridges
#
# Mountains look alike at every scale: large folds have small folds on them. A sum of waves does that, each
# finer and lower than the one before:
#
# $$h(x) = \sum_{k=1}^{n} h_k\, k^{-r} \sin(\pi k x + \varphi_k).$$
#
# The exponent $r$ is the **roughness**'s opposite: at $r = 0$ all waves are equally high and $h$ is noise; at
# $r = 2$ only the long ones count and $h$ is a hill. Then $h$ is stretched to [0, 1], so that a hill's
# height can be set elsewhere.
#
# By hand, one wave with $\varphi = \pi/2$ at four columns $x = 0, \frac14, \frac12, \frac34$:
# $\cos(\pi x) = 1,\ 0.71,\ 0,\ -0.71$. Stretched: $1,\ 0.83,\ 0.41,\ 0$.
#
# ### Exercise: the ridge

# %% exercise="scenery.fields.ridge" lines=5
# %%
ridge = check(ridge)

# %%
rng = np.random.default_rng(3)
phases, sizes = rng.random(64) * 2 * np.pi, rng.normal(size=64)
x = np.arange(400) / 400
figure, axes = plt.subplots(1, 3, figsize=(9, 1.9), sharey=True, layout="constrained")
for axis, rough in zip(axes, [0.6, 1.2, 2.1], strict=True):
    axis.fill_between(x, ridge(400, rough, phases, sizes))
    axis.set(title=f"r = {rough}", xlabel="x")
# %% [markdown]
# To paint below a ridge, each pixel needs a **coverage** $\alpha$: 1 below the ridge, 0 above. Then paint
# replaces what was there by that share, from the farthest layer to the nearest (the painter's algorithm):
#
# $$\text{pixels} \leftarrow \text{pixels} + \alpha\,(\text{colour} - \text{pixels}).$$
#
# A step from 0 to 1 would give jagged edges, so it is spread over a pixel or so by `smoothstep`,
# $3t^2 - 2t^3$, which starts and ends flat.
#
# Distance is painted by **haze**: far things take on the colour of the air. That alone makes depth. In the
# figure, all three pictures have the same five ridges; look at which of them is a landscape.

# %%
def ridges(size, haze, light=LIGHTS["sunset"], count=5):
    """Five ridges before a sky; `haze` of the farthest one's colour is the air's."""
    rng, pixels = np.random.default_rng(8), lookup(table_of(light), 1.7 * heights(size) + 0 * widths(size))
    for k in range(count):
        crest = 0.36 + 0.12 * k - 0.14 * ridge(
            size, 0.9 + 0.25 * k, rng.random(64) * 2 * np.pi, rng.normal(size=64)
        )
        cover = smoothstep(-1 / size, 1 / size, heights(size) - crest)[..., None]
        colour = mix(rgb(0.20, 0.15, 0.22), light.haze, haze * (1 - k / (count - 1)))
        pixels += cover * (colour - pixels)
    return pixels


show([ridges(256, haze) for haze in (0.0, 0.4, 0.85)], ["no haze", "some", "much"], size=2.2)

# %% [markdown]
# ## Water
#
# Still water is a mirror. If row `top` is the first row of water, then it shows row `top` − 1, the next
# one shows row `top` − 2, and so on: **upside down**, but not left to right.
#
# Ripples bend the mirror. For each pixel of the water let $\text{lift}$ say how far above the shore it
# looks, and $\text{sway}$ how far to the right, both in picture heights. With $s$ the picture's size, the
# pixel in column $j$ shows
#
# $$\text{row } \lfloor \text{top} - 1 - |\text{lift}| \cdot s \rfloor, \qquad
# \text{column } \lfloor j + \text{sway} \cdot s \rfloor .$$
#
# Where the eye would look beyond the picture, it gets the last row or column there is. And a lift below 0
# would look under water, so its size alone counts.
#
# ### Exercise: the reflection

# %% exercise="scenery.water.reflected" lines=4
# %%
reflected = check(reflected)

# %% [markdown]
# Three lakes: still; rippled, more strongly the nearer the water is; and in the third, water's own colour
# is mixed in, which the eye needs in order to believe in it. The ripples come from a texture that lies on
# the *floor*: fine at the far shore and wide at our feet.

# %%
size, top = 256, 150
scene = ridges(size, 0.85)
v = (np.arange(size - top) / size)[:, None] + 0 * widths(size)
ripple = floor("ripple", size - top, size, np.random.default_rng(3)) - 0.5
lakes = [scene.copy() for _ in range(3)]
lakes[0][top:] = reflected(scene, top, v * 0.8, 0 * v)
rippled = reflected(scene, top, v * 0.8 + ripple * (0.02 + 0.22 * v), ripple[::-1] * (0.004 + 0.05 * v))
lakes[1][top:] = rippled
own = rgb(0.10, 0.30, 0.40) * mix(LIGHTS["sunset"].shade, LIGHTS["sunset"].sun, 0.5)
lakes[2][top:] = (own + 0.7 * (rippled - own)) * (0.93 + 0.30 * ripple[..., None])
show(lakes, ["still", "rippled", "with a colour of its own"], size=2.2)

# %% [markdown]
# ## Things
#
# Trees and houses are **stamps**: drawn once with strokes and dabs, then pressed onto many pictures. A stamp
# holds no colours but *coverage by material*: for each material one map of how much of a pixel is that
# material in the sun, and one for the shade. Painting is then a matrix product, coverage (h, w, 2m) times a
# palette (2m, 3). Hour, season and distance change the palette alone. One stamp, one cabin, four hours:

# %%
def cabins(hour):
    light = LIGHTS[hour]
    pixels = lookup(table_of(light), heights(160) + 0 * widths(160))
    land.hill(pixels, 0.9, 0.1, (rgb(0.3, 0.4, 0.2), rgb(0.5, 0.6, 0.3)), light, 0.1, np.random.default_rng(1))
    colours = buildings.colours(light, lit=light.dark > 0.3)
    stamps.press(pixels, "cabin", 0, (0.5, 0.93), 0.6, stamps.palette("cabin", 0, colours, light))
    return np.clip(pixels, 0, 1)


show([cabins(hour) for hour in LIGHTS], list(LIGHTS), size=1.8)

# %% [markdown]
# ## Layer by layer
#
# Now the real painter at work. A `Stage` carries the pixels, the attributes and the light from layer to
# layer; after each we take a copy. Look at what each layer adds, and at the order: nothing is ever painted
# behind something.

# %%
has = scenery.sample(np.random.default_rng(0), {
    "kind": "mountain lake", "season": "summer", "time_of_day": "sunset", "weather": "clear",
    "celestial": "sun", "building": "none", "boats": "sailboats",
})
light = light_of("sunset", "clear", np.random.default_rng(0))
canvas = stage.Stage(np.zeros((320, 320, 3), dtype=np.float32), has, light, seed=11)
shore, copies = 0.56, []
layers = {
    "sky, sun, clouds": lambda: stage.paint_sky(canvas, shore, (0.3, 0.4), low=(0.26, 0.27)),
    "mountains": lambda: stage.mountains(canvas, shore + 0.01, 0.34, "peaks", 0.22),
    "a wood": lambda: stage.treeline(canvas, "pine", shore + 0.01, 0.08, 0.38, "far trees"),
    "the lake": lambda: water.lake(canvas.pixels, shore + 0.012, light, rgb(0.1, 0.3, 0.4), canvas.rng("lake")),
    "the sun's path": lambda: water.glitter(
        canvas.pixels, shore + 0.012, canvas.orb[0], light, canvas.rng("glitter")),
    "boats": lambda: stage.boats(canvas, shore, (0.1, 0.22)),
    "grass, a pine": lambda: (
        stage.foreground(canvas, "grass", [(0.96, 0.08), (1.03, 0.12)], "grass"),
        stage.wood(canvas, "pine", [(0.93, 1.0, 0.7)], "near wood")),
    "the brush": lambda: air.vignette(canvas.pixels),
}
for paint in layers.values():
    paint()
    copies.append(np.clip(canvas.pixels, 0, 1))
copies[-1] = np.clip(air.brush(canvas.pixels, np.random.default_rng(0)), 0, 1)
show(copies, list(layers), columns=4, size=2.1)

# %% [markdown]
# ### Twice as large, then halved
#
# A picture of $s$ pixels is painted with $2s$ and then halved, each pixel the mean of four
# (**supersampling**). A mean of four hard decisions is a soft one, so edges become smooth without anybody
# having to think of them. Look at the rim of the sail, enlarged: painted at once at 48 pixels, and painted
# at 96 and 192, then shrunk.

# %%
def sail(painted, size=48):
    """A sharp-edged sail, painted at one size and shrunk to another."""
    y, x = heights(painted), widths(painted)
    inside = (x > 0.3) & (y < 0.9) & (y > 0.1 + 1.35 * (x - 0.3))
    pixels = np.where(inside[..., None], rgb(0.95, 0.9, 0.8), rgb(0.2, 0.35, 0.55))
    small = Image.fromarray((pixels * 255).astype(np.uint8)).reduce(painted // size)
    return small.resize((240, 240), Image.Resampling.NEAREST)


show([sail(48), sail(96), sail(192)], ["painted at once", "at twice the size", "at four times"], size=2.4)

# %% [markdown]
# ### The same seed, the same bytes
#
# Nothing here is left to chance: all randomness comes from generators seeded with the scene's number, and
# **each layer has its own**. So a layer that is left out does not shift the draws of the others, and we can
# change one attribute and keep the rest of the picture. Look at the right: only the aurora, and the light
# it adds, differ.

# %%
assert scenery.scene(3, 64).image.tobytes() == scenery.scene(3, 64).image.tobytes()
with_it = scenery.draw(one.attributes, 3, 256)
without = scenery.draw(one.attributes | {"aurora": False}, 3, 256)
apart = np.abs(np.asarray(with_it, dtype=float) - np.asarray(without)) / 255
show([with_it, without, np.clip(2 * apart, 0, 1)], ["aurora: True", "aurora: False", "the difference"], size=2.2)

# %% [markdown]
# That is worth more than a joke: such pairs are **counterfactuals**, with which one can ask a model what it
# looks at. Does its "aurora" answer change with the aurora, or with the winter night around it?
#
# ## A pattern in the light
#
# Lesson 10 hides QR codes in pictures, with a ControlNet that follows *module-level brightness*. To train
# one, we need pairs: a picture, and the pattern of dark and light modules that *is in it*. A real photo's
# own brightness makes a poor pattern, all patches and no code. Here the painter can put a pattern in, not
# as an overlay but as light and shadow.
#
# Divide the picture into $n \times n$ modules and take each one's mean luminance $m$,
# $0.299\,R + 0.587\,G + 0.114\,B$. A dark module should end at 0.12 and a light one at 0.88, and we go a share
# $\lambda$ of the way, the **strength**:
#
# $$m' = m + \lambda\,\bigl(g - m\bigr), \qquad g = 0.12 \text{ if dark, } 0.88 \text{ if light.}$$
#
# By hand: $m = 0.5$, dark, $\lambda = 0.5$: $m' = 0.5 + 0.5\,(0.12 - 0.5) = 0.31$.
#
# ### Exercise: the modules' goals

# %% exercise="scenery.pattern.module_goals" lines=1
# %%
module_goals = check(module_goals)

# %% [markdown]
# Then every module is multiplied by $m'/m$: that is what sun and shade do to a colour. Hue stays, texture
# stays, and the sum of it all is the pattern. First the plain way, with module edges as sharp as a knife
# and your goals; look at how the cabin survives.

# %%
def relit(pixels, dark, strength):
    """Each module times the gain that brings its mean to its goal: (s, s, 3), (n, n) -> (s, s, 3)."""
    n = len(dark)
    means = module_means(pixels @ LUMA, n)
    gain = module_goals(means, dark, strength) / np.maximum(means, 0.03)
    return np.clip(pixels * gain.repeat(len(pixels) // n, 0).repeat(len(pixels) // n, 1)[..., None], 0, 1)


home = {"kind": "winter wonderland", "building": "cabin", "time_of_day": "sunset", "weather": "clear"}
picture = np.asarray(scenery.draw(home, seed=4, size=320)) / np.float32(255)
dark = np.random.default_rng(2).random((40, 40)) < 0.5
show([relit(picture, dark, s) for s in (0.0, 0.3, 0.6, 0.9)],
     [f"strength {s}" for s in (0.0, 0.3, 0.6, 0.9)], size=2.1)

# %% [markdown]
# The painter of the course does it in the same way with softer hands (`course/scenery/pattern.py`): the
# edges of modules waver like brush strokes, and what is lit up gains less in saturation than in light, or
# snow would turn neon blue. `draw(…, pattern=…)` asks for it. `module_mask` reads a pattern back: a module is dark
# where its mean is below the mean of its surroundings. Compare with the row above, at the same strengths.

# %%
strengths = (0.0, 0.3, 0.6, 0.9)
painted = [scenery.draw(home, 4, 320, dark, s) for s in strengths]
show(painted, [f"strength {s}" for s in strengths], size=2.1)
for strength, image in zip(strengths, painted, strict=True):
    right = (scenery.module_mask(image, 40) == dark).mean()
    print(f"strength {strength}: {right:.0%} of the modules are read right")

# %% [markdown]
# At strength 0 it is chance: half of them. At 0.6 almost all are right, and one can still ski there. (The
# faint trace at 0 is the softening of the edges: it brings each module's mean back to where it was, and no
# further.) Between 0.3 and 0.9 lies the trade of lesson 10: the more of the code, the less of the picture.
#
# The tiny ControlNet's training pairs are painted like this, at strengths from 0.5 to 0.9 and with patterns
# that have finders and a quiet zone as codes have. Here is a real code, a website's address, in one
# picture at four strengths. The titles name the scanners that read it; or hold your telephone to the screen.
# From which strength on do *you* see the code first, and the place second?

# %%
code = qr_codes.make_code("https://example.com/", version=3, level="M").numpy()
grid = np.pad(code, ((5, 6), (5, 6)))
hills = {"kind": "autumn hills", "time_of_day": "sunset"}
coded = [scenery.draw(hills, 3, 320, grid, s) for s in (0.4, 0.55, 0.7, 0.9)]
read = [qr_codes.scan(torch.from_numpy(np.array(x)).permute(2, 0, 1)[None] / 255) for x in coded]
titles = [", ".join(name for name in ("zxing-cpp", "pyzbar") if r.get(name)) or "none" for r in read]
show(coded, titles, size=2.1)

# %% [markdown]
# Modules that are right on the mean do not yet make a code that is read. A scanner follows rows of pixels
# and looks for the finders' rhythm; brushed edges, and a quiet zone with clouds in it, can hide that. In
# other places, a seaside say, the same code is refused at higher strengths too. So in lesson 10 we measure
# both, module errors and scanners.
#
# <details><summary>Think: why not blend the code over the picture, pixel = 0.6 · picture + 0.4 ·
# code?</summary>
#
# That is the grey veil which one sees on bad artistic codes: it takes colour away everywhere and adds
# edges that belong to no object. A model trained on such pairs learns to paint veils. Multiplying the light
# keeps hue and texture, so the model learns that a dark module is *something dark*, a shadow or a tree.
#
# </details>
#
# ## Your own object
#
# Now paint something of your own: a kite, a balloon, a boat, a sheep. A stamp is drawn with a `Stencil`:
# coordinates in units of its height, x from 0 to its aspect, y downwards from 0 to 1; each shape names its
# material, and how much in the sun it stands, from 0 to 1. Here is a hot-air balloon to begin with.

# %%
@stamps.makes("balloon", variants=1)
def balloon(kind, variant):
    pen = stamps.Stencil(160, 0.8, ("red", "cream", "basket"), seed=1)
    for k in range(8):
        left, right = 0.4 * np.cos(np.pi * k / 8), 0.4 * np.cos(np.pi * (k + 1) / 8)
        turns = np.linspace(0, np.pi, 20)
        edge = [(0.4 + left * np.sin(t), 0.4 - 0.38 * np.cos(t)) for t in turns]
        back = [(0.4 + right * np.sin(t), 0.4 - 0.38 * np.cos(t)) for t in turns[::-1]]
        pen.shape([*edge, *back], "red" if k % 2 else "cream", 0.35 + 0.09 * k)
    for x in (0.34, 0.46):
        pen.stroke([(0.4 + 3 * (x - 0.4), 0.68), (x, 0.9)], 0.012, "basket", 0.3)
    pen.box(0.33, 0.88, 0.47, 1.0, "basket", 0.6)
    return pen.stamp("leaf", 0.2)


# %% [markdown]
# Press it onto a picture, large and near, small and in the haze. It needs colours and a light and nothing
# else.

# %%
def aloft(hour, seed):
    light = LIGHTS[hour]
    plain = {"kind": "meadow", "time_of_day": hour, "weather": "clear",
             "celestial": "none", "building": "none"}
    pixels = np.asarray(scenery.draw(plain, seed, 320)) / np.float32(255)
    colours = {"red": rgb(0.85, 0.2, 0.15), "cream": rgb(0.98, 0.92, 0.75), "basket": rgb(0.5, 0.33, 0.2)}
    for x, y, height, haze in ((0.72, 0.28, 0.12, 0.45), (0.35, 0.45, 0.3, 0.1)):
        table = stamps.palette("balloon", 0, colours, light, haze)
        stamps.press(pixels, "balloon", 0, (x, y), height, table)
    return np.clip(pixels, 0, 1)


show([aloft("day", 2), aloft("sunset", 5), aloft("dawn", 9)], size=2.4)

# %% [markdown]
# **Your turn** (open, no check): write your own `@stamps.makes(…)` above, press it, and look. Then think
# it through to the end: what would have to change so that a *caption* can speak of it?
#
# <details><summary>The four places</summary>
#
# 1. `world.ATTRIBUTES`: a name and its values, the first of them meaning absent, say
#    `"balloon": YES_NO`;
# 2. `world.PLANS` and `NEEDS`: in which kinds of place, how often, under which conditions (not in the rain);
# 3. `captions.PHRASES`: what to call it, in two or three ways;
# 4. the painter of a place (`countryside.meadow`, say): press it where `stage.has["balloon"]`, with a
#    generator of its own, `stage.rng("balloon")`.
#
# The tests then demand of it what they demand of all: that it occurs often enough to be learned, that it can
# be *seen* (pixels change when it is taken away), and that every phrase said of it is true. And every model
# must be trained anew: the world has changed.
#
# </details>
#
# ## Recap
# 1. Attributes first; picture and caption both follow from them, so a caption is true by construction and
#    the truth is there to measure with.
# 2. A picture is layers from far to near, each `pixels += α (colour − pixels)`; haze makes distance.
# 3. Broken colour, waves of falling height and a bent mirror make sky, ridges and water.
# 4. One generator a layer: the same seed gives the same bytes, and one attribute can change alone.
# 5. A pattern lives in the luminance: each module's light goes a share of the way to dark or light, and hue
#    and texture stay. Such pairs train a ControlNet.
#
# **What can go wrong.** Captions written from the picture rather than with it. Values so rare that no model
# learns them. One generator for all layers, so that a missing star moves the mountains. Edges without
# supersampling. A reflection that begins at its own first row. A pattern laid over the picture as a veil.
#
# **Read on.** T. Porter, T. Duff, *Compositing Digital Images*, SIGGRAPH 1984, for α. B. Mandelbrot, *The
# Fractal Geometry of Nature*, 1982, for ridges. J. Johnson et al., *CLEVR: A Diagnostic Dataset for
# Compositional Language and Elementary Visual Reasoning*, CVPR 2017 (arXiv 1612.06890), a painted world
# built to ask questions of. L. Zhang et al., arXiv 2302.05543, for what the pairs are for.
