"""The one port that the world sees: TLS, a list of open paths, limits, and nothing else.

What happens in each case of misuse is told in docs/gateway.md.
"""

from server.gateway.front import Gateway, Services
from server.gateway.limits import Limits
from server.gateway.upstream import Upstream

__all__ = ["Gateway", "Limits", "Services", "Upstream"]
