"""Calls about models, tokens and quotas."""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from fanbench.local.state.tables import now
from fanbench.local.wire import OWNER, Services, page_of
from fanbench.wire.candidates import Candidate, config_name, config_slug
from fanbench.wire.messages import (
    BenchmarkModel,
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    ListConfigsRequest,
    ListConfigsResponse,
    ListModelsRequest,
    ListModelsResponse,
    Modality,
    ModelConfig,
    ModelProxyQuotas,
    ModelProxyToken,
    ModelVersion,
    QuotaBalance,
    RefillPeriod,
    TaskQuota,
    TaskRequest,
)
from fanbench.wire.slugs import normalize_model

TOKEN_LIFETIME = timedelta(hours=2)
"""As on Kaggle."""


async def list_models(services: Services, request: ListModelsRequest) -> ListModelsResponse:
    catalog = services.pool.catalog
    ids = await services.store.model_ids([normalize_model(model.slug) for model in catalog.model])
    # The default first: clients that take the first of the list take what the server would.
    ordered = sorted(catalog.model, key=lambda model: model is not catalog.default_model)
    page, token = page_of(ordered, request.page_size, request.page_token, 0)
    listed = []
    for model in page:
        slug = normalize_model(model.slug)
        name = model.name or slug
        version = ModelVersion(
            id=ids[slug],
            slug=slug,
            display_name=name,
            model_proxy_slug=model.slug,
            allow_model_proxy=True,
            input_modalities=[
                Modality(f"MODALITY_{word.upper()}")
                for word in model.modalities or ["text"]
                if word != "file"  # the protocol has no name for it
            ],
            output_modalities=[Modality.TEXT],
            supports_reasoning_effort=bool(model.efforts),
            aliases=model.alias,
        )
        listed.append(BenchmarkModel(id=ids[slug], display_name=name, slug=slug, version=version))
    return ListModelsResponse(benchmark_models=listed, next_page_token=token)


async def list_configs(services: Services, request: ListConfigsRequest) -> ListConfigsResponse:
    """The models at their efforts. Their numbers are kept under their labels, as those of models under their slugs."""
    candidates = [
        (spec, Candidate(normalize_model(spec.slug), effort))
        for spec in services.pool.catalog.model
        for effort in spec.efforts
    ]
    names = [name for _, each in candidates for name in (each.model, each.label)]
    ids = await services.store.model_ids(names)
    wanted = set(request.benchmark_model_version_ids)
    configs = [
        ModelConfig(
            id=ids[each.label],
            benchmark_model_version_id=ids[each.model],
            display_name=config_name(spec.name or each.model, each.effort),
            slug=config_slug(each.model, each.effort),
            reasoning_effort=each.effort,
        )
        for spec, each in candidates
        if not wanted or ids[each.model] in wanted
    ]
    page, token = page_of(configs, request.page_size, request.page_token, 0)
    return ListConfigsResponse(configs=page, next_page_token=token)


async def create_proxy_token(services: Services, _request: TaskRequest) -> ModelProxyToken:
    token = f"fbp-{secrets.token_urlsafe(24)}"
    expires = await services.store.add_token(token, TOKEN_LIFETIME)
    return ModelProxyToken(token=token, base_uri=services.addresses.model_proxy, expiry_time=expires)


async def task_quota(services: Services, _request: TaskRequest) -> TaskQuota:
    used = await services.store.runs_since(_midnight())
    return TaskQuota(daily_quota_used=used, total_daily_quota_allowed=services.settings.daily_runs)


async def proxy_quotas(services: Services, _request: TaskRequest) -> ModelProxyQuotas:
    day = _midnight()
    month = day.replace(day=1)
    next_month = (month + timedelta(days=32)).replace(day=1)
    daily = services.settings.proxy_quota_usd
    periods = [
        (RefillPeriod.DAILY, day, day + timedelta(days=1), daily),
        (RefillPeriod.MONTHLY, month, next_month, 30 * daily),
    ]
    return ModelProxyQuotas(
        quota_balances=[
            QuotaBalance(
                quota_used=await services.store.spent_nanodollars(since) / 1e9,
                total_quota_allowed=allowed,
                refill_period=period,
                refill_time=refill,
            )
            for period, since, refill, allowed in periods
        ]
    )


def _midnight() -> datetime:
    """The start of this day, in UTC."""
    return now().replace(hour=0, minute=0, second=0, microsecond=0)


async def introspect_token(services: Services, request: IntrospectTokenRequest) -> IntrospectTokenResponse:
    if not secrets.compare_digest(request.token.encode(), services.token.encode()):
        return IntrospectTokenResponse(active=False)
    exp = int((now() + timedelta(days=365)).timestamp())
    return IntrospectTokenResponse(active=True, username=OWNER, user_id=1, scope="resources.admin:*", exp=exp)
