"""The one port that the world sees: TLS, a list of open paths, limits, and nothing else.

`front.Gateway` is it; what happens in each case of misuse is told in docs/gateway.md.
"""
