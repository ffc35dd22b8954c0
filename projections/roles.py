"""The fixed roles behind a tenant's stages, in one place since everything compares stages by them."""

SUCCESS_ROLES = ("anonymous", "known", "engaged", "mql", "sal", "sql", "opportunity", "won")
"""Roles of success stages, lowest first."""
RETURN_ROLES = ("recycled", "nurture", "disqualified")
"""Detours whose entry is a return: counters and passes start again."""
DETOUR_ROLES = (*RETURN_ROLES, "lost", "churned")
ROLES = (*SUCCESS_ROLES, *DETOUR_ROLES)
RANK = {role: rank for rank, role in enumerate(SUCCESS_ROLES)}
"""Success role to its height, anonymous = 0. Detours have none."""
