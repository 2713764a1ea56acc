"""TRL's GRPOTrainer, one step at a time. The only module that imports TRL, which is installed for tests only."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from typing import Any

import torch

from src.models.policy import Policy
from src.types import Row

ENDLESS = [-1]
"""End-of-sequence tokens that no model generates, so that TRL's mask covers whole completions."""


def missing() -> str | None:
    """The reason why TRL is not available, or ``None``."""
    names = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(names)}: not installed (pip install trl)" if names else None


class TrlTrainer:
    """TRL's GRPOTrainer on a policy's model and adapter, with plain GRPO: no KL term, one iteration.

    Everything is TRL's code, except that prompts are given as tokens. Gradient checkpointing, TRL's default, is off,
    because this project's step does not use it at these sizes either.
    """

    def __init__(self, policy: Policy, rows: int, new_tokens: int, max_grad_norm: float, lr: float, out: str) -> None:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        warnings.filterwarnings("ignore", "`gradient_checkpointing` is deprecated", FutureWarning)
        half = next(policy.model.parameters()).dtype
        config = GRPOConfig(
            output_dir=out,
            per_device_train_batch_size=rows,
            num_generations=rows,
            max_completion_length=new_tokens,
            gradient_checkpointing=False,
            bf16=half == torch.bfloat16,
            fp16=half == torch.float16,
            use_cpu=policy.device.type == "cpu",
            beta=0.0,
            loss_type="grpo",
            learning_rate=lr,
            max_grad_norm=max_grad_norm,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            generation_kwargs={"eos_token_id": None},
        )
        self.prompt: tuple[int, ...] = ()

        class TokenPrompts(GRPOTrainer):  # type: ignore[misc]
            """TRL's trainer with prompts given as tokens."""

            def _tokenize_prompts(own, prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:  # noqa: N805
                return [list(self.prompt) for _ in prompts], None, {}

        self.trainer = TokenPrompts(
            model=policy.model,
            reward_funcs=alternating,
            args=config,
            train_dataset=Dataset.from_dict({"prompt": [""] * rows}),
            processing_class=policy.codec.tokenizer,
        )
        self.trainer.eos_token_ids = ENDLESS
        self.trainer.current_gradient_accumulation_steps = 1  # what TRL's own loop sets at its first step
        self.trainer.model.train()
        self.optimizer = self.trainer.create_optimizer()
        self.policy, self.rows, self.max_grad_norm = policy, rows, max_grad_norm

    def loss(self, rows: Sequence[Row]) -> torch.Tensor:
        """TRL's loss on ``rows``, whose prompts have equal lengths, and whose completions too."""
        prompt = torch.tensor([row.prompt for row in rows])
        completion = torch.tensor([row.completion for row in rows])
        batch = {
            "prompt_ids": prompt,
            "prompt_mask": torch.ones_like(prompt),
            "completion_ids": completion,
            "completion_mask": torch.ones_like(completion),
            "advantages": torch.tensor([row.advantage for row in rows]),
        }
        loss: torch.Tensor = self.trainer.compute_loss(
            self.trainer.model, {name: tensor.to(self.policy.device) for name, tensor in batch.items()}
        )
        return loss

    def train(self, rows: Sequence[Row]) -> int:
        """Loss, gradient and optimizer step on ``rows``. Returns the number of completion tokens."""
        self.optimizer.zero_grad()
        torch.autograd.backward(self.loss(rows))
        self._step()
        return sum(len(row.completion) for row in rows)

    def whole_step(self, prompt: tuple[int, ...]) -> int:
        """A whole step for the group of one prompt, with generation. Returns the number of completion tokens."""
        self.prompt = prompt
        self.optimizer.zero_grad()
        self.trainer.training_step(self.trainer.model, [{"prompt": ""} for _ in range(self.rows)], None)
        self._step()
        buffered = self.trainer._buffered_inputs[0]
        return int(buffered["completion_mask"].sum())

    def _step(self) -> None:
        torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.optimizer.step()


def alternating(completions: Sequence[str], **_: Any) -> list[float]:
    """Alternating rewards 0 and 1, so that every row has a nonzero advantage."""
    return [float(index % 2) for index in range(len(completions))]
