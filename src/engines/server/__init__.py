"""Generation with running vLLM servers (``engine=vllm-server``): requests over HTTP, adapters loaded at run time."""
