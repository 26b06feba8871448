"""SAM 3's vision trunk: a ViT with windowed and global attention, axial rotary and tiled absolute positions.

pixels (I, 3, H, W) -> one map (I, C, H / patch, W / patch). Source: reference facts of the official trunk;
the design is ViTDet (Li et al. 2022, arXiv:2203.16527) with axial RoPE (Heo et al. 2024, arXiv:2403.13298).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from conceptseg.models.layers.rope import axial_rope_table, rotate


class VisionTransformer(nn.Module):
    """The trunk; `strides` and `channels` describe its one output map."""

    def __init__(
        self,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_width: int,
        window: int,
        global_blocks: tuple[int, ...],
        position_grid: int,
        rope_theta: float,
        drop_path: float,
        norm_eps: float,
        rounded_mlp: bool = False,
    ) -> None:
        super().__init__()
        self.channels = (width,)
        self.position_grid = position_grid
        self.patch_embed = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.position_embedding = nn.Parameter(torch.zeros(1, position_grid, position_grid, width))
        self.norm_pre = nn.LayerNorm(width, eps=norm_eps)
        self.blocks = nn.ModuleList(
            Block(
                width=width,
                heads=heads,
                mlp_width=mlp_width,
                window=0 if i in global_blocks else window,
                rope_window=window,
                rope_theta=rope_theta,
                drop_path=drop_path * i / max(depth - 1, 1),
                norm_eps=norm_eps,
                rounded_mlp=rounded_mlp,
            )
            for i in range(depth)
        )
        nn.init.trunc_normal_(self.position_embedding, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, pixels: Tensor) -> list[Tensor]:
        x = self.patch_embed(pixels).permute(0, 2, 3, 1)  # (I, h, w, C)
        x = self.norm_pre(x + self._tiled_positions(x.shape[1], x.shape[2]))
        return [self.run_blocks(x).permute(0, 3, 1, 2)]  # (I, C, h, w)

    def run_blocks(self, x: Tensor) -> Tensor:
        """Every block in turn, (I, h, w, C) in and out."""
        for block in self.blocks:
            x = block(x)
        return x

    def _tiled_positions(self, height: int, width: int) -> Tensor:
        """Repeat the learned table over the image and crop: tiled, not interpolated, as in training."""
        rows, columns = -(-height // self.position_grid), -(-width // self.position_grid)
        return self.position_embedding.repeat(1, rows, columns, 1)[:, :height, :width]


class Block(nn.Module):
    """Attention in windows (of the whole image when `window` is 0), then a feed-forward; norms come first."""

    def __init__(
        self,
        width: int,
        heads: int,
        mlp_width: int,
        window: int,
        rope_window: int,
        rope_theta: float,
        drop_path: float,
        norm_eps: float,
        rounded_mlp: bool = False,
    ) -> None:
        super().__init__()
        self.window = window
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attention = RotaryAttention(width, heads, rope_theta, rope_window)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        mlp = RoundedMLP if rounded_mlp else nn.Sequential
        self.mlp = mlp(nn.Linear(width, mlp_width), nn.GELU(), nn.Linear(mlp_width, width))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:  # (I, h, w, C)
        return self.think(self.look(x))

    def look(self, x: Tensor) -> Tensor:
        """The first half: tokens attend to each other."""
        return x + self.drop_path(self._attend(self.norm1(x)))

    def think(self, x: Tensor) -> Tensor:
        """The second half, each token by itself."""
        return x + self.drop_path(self.mlp(self.norm2(x)))

    def _attend(self, x: Tensor) -> Tensor:
        images, height, width, channels = x.shape
        if not self.window:
            return self.attention(x)
        # Windows at the right and bottom edge are filled up with zeros that are attended to: as released.
        x = F.pad(x, (0, 0, 0, -width % self.window, 0, -height % self.window))
        rows, columns = x.shape[1] // self.window, x.shape[2] // self.window
        x = x.reshape(images, rows, self.window, columns, self.window, channels).transpose(2, 3)
        x = self.attention(x.reshape(-1, self.window, self.window, channels))
        x = x.reshape(images, rows, columns, self.window, self.window, channels).transpose(2, 3)
        return x.reshape(images, rows * self.window, columns * self.window, channels)[:, :height, :width]


class RoundedMLP(nn.Sequential):
    """A feed-forward as the official code since SAM 3.1 runs it on CUDA, where no gradient is needed.

    One fused kernel takes the input and the first weights in bfloat16, and its GELU is that by tanh. There
    the second product has to be in bfloat16 too, by autocast; here it is in what the trunk computes in.
    """

    def forward(self, x: Tensor) -> Tensor:
        first, gelu, second = self
        if torch.is_grad_enabled():
            return second(gelu(first(x)))
        with torch.autocast(x.device.type, torch.bfloat16):
            y = first(x)
        y = F.gelu(y.float(), approximate="tanh").to(torch.bfloat16)
        return second(y.to(x.dtype))


class RotaryAttention(nn.Module):
    """Self-attention over a grid of tokens, queries and keys turned by where they are."""

    def __init__(self, width: int, heads: int, rope_theta: float, rope_window: int) -> None:
        super().__init__()
        self.heads = heads
        self.rope_theta = rope_theta
        self.rope_window = rope_window
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:  # (I, h, w, C), any number of windows as I
        images, height, width, channels = x.shape
        qkv = self.qkv(x).reshape(images, height * width, 3, self.heads, channels // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (I, heads, h * w, C / heads)
        # A larger grid is squeezed into the range of coordinates that one window has.
        scale = self.rope_window / width
        cos, sin = axial_rope_table(height, width, channels // self.heads, self.rope_theta, scale, x.device)
        x = self.attend(q, k, v, cos, sin)  # (I, heads, h * w, C / heads)
        return self.proj(x.transpose(1, 2).reshape(images, height, width, channels))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Attention of queries and keys that are turned by their positions."""
        return F.scaled_dot_product_attention(rotate(q, cos, sin), rotate(k, cos, sin), v)


class DropPath(nn.Module):
    """Leaves a residual branch out for some images while training (stochastic depth)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return x
        from torchvision.ops import stochastic_depth  # a second and 170 MB, which only training waits for

        dropped: Tensor = stochastic_depth(x, self.rate, mode="row")
        return dropped
