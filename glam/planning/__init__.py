"""What a run needs and costs: parameters, FLOPs, bytes, hours, energy; whether it fits.

What is counted comes from the configuration alone, without torch, so that a run too large is
refused in milliseconds; `calibration` and `tpu_compile` measure, and import what they need.
"""
