"""How the models of `data/models/scenery` are made: a tiny Stable Diffusion, and two DDPMs."""
