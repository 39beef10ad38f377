"""Limits, faults and attacks: each case of the robustness contract, over real sockets."""
