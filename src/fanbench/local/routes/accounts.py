"""Models, leaderboards, tokens and quotas: BenchmarksApiService, ModelProxyApiService, OAuthService."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from fanbench.local.clock import now
from fanbench.local.models.catalog import ModelSpec, modalities
from fanbench.local.routes.paging import page_of
from fanbench.local.wire import OWNER, Services, WireError
from fanbench.wire.messages import (
    BenchmarkModel,
    GetLeaderboardRequest,
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    Leaderboard,
    ListModelsRequest,
    ListModelsResponse,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersion,
    QuotaBalance,
    RefillPeriod,
    TaskRequest,
)
from fanbench.wire.slugs import normalize_model

TOKEN_LIFETIME = timedelta(hours=2)
"""As on Kaggle."""


async def list_models(services: Services, request: ListModelsRequest) -> ListModelsResponse:
    catalog = services.pool.catalog
    ids = await services.store.model_ids([normalize_model(model.slug) for model in catalog.model])
    # The default first: who takes the first of the list takes what the server would.
    ordered = sorted(catalog.model, key=lambda model: model is not catalog.default_model)
    page, token = page_of(ordered, request.page_size, request.page_token, 0)
    return ListModelsResponse(
        benchmark_models=[model_message(model, ids[normalize_model(model.slug)]) for model in page],
        next_page_token=token,
    )


def model_message(spec: ModelSpec, number: int) -> BenchmarkModel:
    slug = normalize_model(spec.slug)
    name = spec.name or slug
    version = ModelVersion(
        id=number,
        slug=slug,
        display_name=name,
        model_proxy_slug=spec.slug,
        allow_model_proxy=True,
        input_modalities=modalities(spec.input),
        output_modalities=modalities(spec.output),
    )
    return BenchmarkModel(id=number, display_name=name, slug=slug, version=version)


async def leaderboard(_services: Services, request: GetLeaderboardRequest) -> Leaderboard:
    # Benchmarks are curated on Kaggle's site; this server has tasks only.
    raise WireError(404, f"Benchmark not found: {request.owner_slug}/{request.benchmark_slug}")


async def create_proxy_token(services: Services, _request: TaskRequest) -> ModelProxyToken:
    token = f"fbp-{secrets.token_urlsafe(24)}"
    expires = await services.store.add_token(token, TOKEN_LIFETIME)
    return ModelProxyToken(token=token, base_uri=f"{services.base_url}/models", expiry_time=expires)


async def proxy_quotas(services: Services, _request: TaskRequest) -> ModelProxyQuotas:
    today = now().replace(hour=0, minute=0, second=0, microsecond=0)
    month = today.replace(day=1)
    daily = services.settings.proxy_quota_usd
    next_month = (month + timedelta(days=32)).replace(day=1)
    return ModelProxyQuotas(
        quota_balances=[
            await _balance(services, RefillPeriod.DAILY, today, today + timedelta(days=1), daily),
            await _balance(services, RefillPeriod.MONTHLY, month, next_month, 30 * daily),
        ]
    )


async def _balance(
    services: Services, period: RefillPeriod, since: datetime, refill: datetime, allowed: float
) -> QuotaBalance:
    spent = await services.store.spent_nanodollars(since)
    return QuotaBalance(
        quota_used=spent / 1e9, total_quota_allowed=allowed, refill_period=period, refill_time=refill
    )


async def introspect_token(services: Services, request: IntrospectTokenRequest) -> IntrospectTokenResponse:
    if not secrets.compare_digest(request.token.encode(), services.token.encode()):
        return IntrospectTokenResponse(active=False)
    exp = int((now() + timedelta(days=365)).timestamp())
    return IntrospectTokenResponse(active=True, username=OWNER, user_id=1, scope="resources.admin:*", exp=exp)
