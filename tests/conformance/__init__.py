"""The contracts that aiosupervise keeps, beside asyncio."""
