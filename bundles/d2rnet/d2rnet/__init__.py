"""D2R-Net: chest X-ray reports from the whole image and from detected lesions."""
