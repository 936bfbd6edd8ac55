"""A reproduction study of CT-Net (ICLR 2021)."""
